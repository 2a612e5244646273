/** The log line of the demo: one for each request, as it reached the API. */

/** What a log line tells of a request. */
export interface LoggedRequest {
  readonly queue: string;
  readonly provider: string;
  readonly dataType: string;
  readonly number: number;
  /** Seconds since the first request of the run, on the clock of the API. */
  readonly seconds: number;
}

/**
 * Formats a request; other people's scripts read this line, so its columns are fixed.
 *
 * @example
 * logLine({ queue: "queue_users", provider: "aws", dataType: "users", number: 1, seconds: 0 });
 * // [queue_users       ] [AWS  ][users      ] Request #1 -   0.00s
 */
export function logLine(request: LoggedRequest): string {
  const queue = request.queue.padEnd(18);
  const provider = request.provider.toUpperCase().padEnd(5);
  const dataType = request.dataType.padEnd(11);
  const seconds = request.seconds.toFixed(2).padStart(7);
  return `[${queue}] [${provider}][${dataType}] Request #${request.number} -${seconds}s`;
}
