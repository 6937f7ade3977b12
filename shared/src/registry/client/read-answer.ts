import { CodedError } from '../../errors.ts';
import { type Answer, down } from './exchange.ts';

/** Reads an upstream's body to memory. @throws {CodedError} `UPSTREAM_LIES` when it is larger than `limitBytes`, `BACKEND_DOWN` when cut */
export async function readAnswer(
  upstream: string,
  answer: Answer,
  limitBytes: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      sizeBytes += chunk.length;
      if (sizeBytes > limitBytes)
        throw new CodedError('UPSTREAM_LIES', {
          message: `answer of ${answer.url.host} is larger than ${limitBytes} bytes`,
          detail: { upstream, limitBytes },
        });
      chunks.push(chunk);
    }
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw error instanceof CodedError ? error : down(answer.url, error);
  }
  return Buffer.concat(chunks, sizeBytes);
}
