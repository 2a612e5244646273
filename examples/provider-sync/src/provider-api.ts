/** The client of the providers' API: what an application would have anyway, rate limits are none of its business. */

/** One page of one data type of one provider. */
export interface PageRequest {
  readonly provider: string;
  readonly dataType: string;
  /** Number of the page, from 1. */
  readonly number: number;
}

/** What the API says to a page request. */
export interface Page {
  readonly provider: string;
  readonly data_type: string;
  readonly n: number;
  /** True when the API had served a request with this key before. */
  readonly repeated: boolean;
}

// The first fetch of a process takes some 40 ms longer than those that follow, the next few some milliseconds.
const warmUpCalls = 5;

/** The API at one address. */
export interface ProviderApi {
  /** Opens a connection and runs the code of a call warm: the first request that counts should not come late. */
  connect(): Promise<void>;
  /** Fetches a page. The same `key` marks the same request, however often it is sent. Throws unless it is served. */
  page(request: PageRequest, key: string, signal: AbortSignal): Promise<Page>;
}

/** The client for the API at `url`; `caller` is how it introduces itself (`User-Agent`). */
export function providerApi(url: string, caller: string): ProviderApi {
  return {
    async connect() {
      for (let times = 0; times < warmUpCalls; times += 1) {
        await (await fetch(url, { headers: { "User-Agent": caller } })).json();
      }
    },
    async page({ provider, dataType, number }, key, signal) {
      const address = `${url}/provider/${provider}/data_type/${dataType}?n=${number}`;
      const response = await fetch(address, {
        headers: { "Idempotency-Key": key, "User-Agent": caller },
        signal,
      });
      if (!response.ok) {
        const retryAfter = response.headers.get("Retry-After");
        const body = await response.text();
        throw new Error(`the API answered ${response.status} (Retry-After ${retryAfter ?? "-"}): ${body}`);
      }
      return (await response.json()) as Page;
    },
  };
}
