import { get, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';

/** One answer as a client on the node sees it, byte by byte. */
export interface Watched {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  /** The connection ended before the announced length. */
  readonly cut: boolean;
  /** From the request to the headers, to the end, in ms. */
  readonly headersMs: number;
  readonly totalMs: number;
  /** Longest silence of the body, in ms. */
  readonly gapMs: number;
}

/** Code and message of an OCI error body. @throws if it is none */
export function ociError(answer: Watched): { code: string; message: string } {
  const body = JSON.parse(answer.bytes.toString('utf8')) as { errors: { code: string; message: string }[] };
  return body.errors[0]!;
}

/** GETs without any patience of its own (containerd has none either), except `withinMs` for the test's sake. */
export async function watchedGet(
  url: string,
  headers: Readonly<Record<string, string>> = {},
  options: { readonly withinMs?: number; readonly onBytes?: (total: number) => void } = {},
): Promise<Watched> {
  const startedMs = performance.now();
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const asked = get(url, { headers, agent: false }, resolve);
    asked.once('error', reject);
    setTimeout(
      () => asked.destroy(new Error(`no end within ${options.withinMs ?? 60_000} ms: ${url}`)),
      options.withinMs ?? 60_000,
    ).unref();
  });
  const headersMs = performance.now() - startedMs;
  const chunks: Buffer[] = [];
  let lastMs = performance.now();
  let gapMs = 0;
  let total = 0;
  let cut = false;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      const nowMs = performance.now();
      gapMs = Math.max(gapMs, nowMs - lastMs);
      lastMs = nowMs;
      total += chunk.length;
      chunks.push(chunk);
      options.onBytes?.(total);
    }
  } catch {
    cut = true;
  }
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    bytes: Buffer.concat(chunks),
    cut: cut || !response.complete,
    headersMs,
    totalMs: performance.now() - startedMs,
    gapMs,
  };
}
