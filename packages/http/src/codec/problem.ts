/** Problem details (RFC 9457) with the types that the RateLimit drafts register. */

/** The body of a refusal. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail?: string;
  /** The names of the limits that refused. */
  readonly "violated-policies"?: readonly string[];
}

/** The media type of a {@link Problem}. */
export const problemType: string = "application/problem+json";

const registry = "https://iana.org/assignments/http-problem-types";

/** The client has used up its budget: 429. */
export function quotaExceeded(violated: readonly string[]): Problem {
  return {
    type: `${registry}#quota-exceeded`,
    title: "Quota exceeded",
    status: 429,
    ...(violated.length === 0 ? {} : { "violated-policies": violated }),
  };
}

/** The server admits less than usual, through no fault of the client: 503. */
export function temporaryReducedCapacity(): Problem {
  return {
    type: `${registry}#temporary-reduced-capacity`,
    title: "Temporarily reduced capacity",
    status: 503,
  };
}
