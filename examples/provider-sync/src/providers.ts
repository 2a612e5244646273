/**
 * The world of the demo: three providers, three data types, and what the API allows for each data type.
 * The budget of a data type is one for all providers together, as it is for one API account.
 */

/** The providers whose data is synced; a provider is a partition of each queue. */
export const providers = ["aws", "azure", "gcp"] as const;

/** What the API allows for one data type, over all providers together. */
export interface DataType {
  /** Path segment of the API and suffix of the queue's name. */
  readonly name: string;
  /** Requests allowed in any window of {@link DataType.periodMs}; a positive integer. */
  readonly limit: number;
  /** Length of the window in milliseconds. */
  readonly periodMs: number;
  /**
   * By how much its queue widens the period, in milliseconds, so that jitter between the start of a call and its
   * arrival never puts one request too many into a window. It costs its share of the budget: 1.8 % of 2/1s here, so
   * that a busy laptop is forgiven. Without it a queue chooses for itself.
   */
  readonly guardMs: number;
}

/** The data types to sync, with their limits: users 2/1s, groups 2/5s, permissions 3/10s. */
export const dataTypes: readonly DataType[] = [
  { name: "users", limit: 2, periodMs: 1_000, guardMs: 18 },
  { name: "groups", limit: 2, periodMs: 5_000, guardMs: 50 },
  { name: "permissions", limit: 3, periodMs: 10_000, guardMs: 50 },
];

/** How many requests each provider/data-type pair needs, unless `--requests` says otherwise. */
export const requestsPerPair = 5;

/** The name of the queue that feeds a data type. */
export function queueName(dataType: DataType | string): string {
  return `queue_${typeof dataType === "string" ? dataType : dataType.name}`;
}

/** The rate of a data type as a person writes it: `"2/1s"`. */
export function rateText(dataType: DataType): string {
  return `${dataType.limit}/${dataType.periodMs / 1000}s`;
}
