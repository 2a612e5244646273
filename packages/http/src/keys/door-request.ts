/** A request as the door sees it, whatever framework it came through. */
export interface DoorRequest {
  readonly method: string;
  /** The path with its query, as it was sent. */
  readonly url: string;
  /** The address of the socket; undefined where there is none. */
  readonly remoteAddress: string | undefined;
  /** The framework's own request. */
  readonly native: unknown;
  /** A header by its name in lower case; several lines are joined with commas. */
  header(name: string): string | undefined;
}
