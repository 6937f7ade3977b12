import { throwIfBug } from '@sepia/base/failure';
import { silentLogger } from '@sepia/base/log';
import type { Test } from 'tap';
import { type Dispatcher, request } from 'undici';
import { createApp } from '../../src/app.ts';
import type { ReadableBlob } from '../../src/bodies/readable-blob.ts';
import { createGate } from '../../src/gate.ts';
import { HttpListener } from '../../src/listener.ts';
import { serveBlob } from '../../src/serve-blob.ts';

interface Setup {
  readonly stallMs?: number;
  readonly firstPieceMs?: number;
  readonly resumable?: boolean;
  readonly untakenMs?: number;
}

/** Serves the blob at any path; tells how many bytes were handed to sockets. */
export async function serve(t: Test, blob: ReadableBlob, setup: Setup = {}) {
  const served = { bytes: 0 };
  const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/*': 'anyone' } }) });
  app.use((ctx) =>
    serveBlob(ctx, blob, {
      contentType: 'application/octet-stream',
      stallMs: setup.stallMs ?? 5_000,
      firstPieceMs: setup.firstPieceMs ?? 5_000,
      onBytes: (bytes) => {
        served.bytes += bytes;
      },
      ...(setup.untakenMs === undefined ? {} : { untakenMs: setup.untakenMs }),
      ...(setup.resumable === undefined ? {} : { resumable: setup.resumable }),
    }),
  );
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  const get = (
    headers: Record<string, string> = {},
    method: 'GET' | 'HEAD' = 'GET',
  ): Promise<Dispatcher.ResponseData> =>
    request(`${listener.url}/blob`, { method, headers, signal: AbortSignal.timeout(20_000) });
  return { get, served, port: listener.port };
}

/** Reads until the body ends or is cut. */
export async function drain(body: AsyncIterable<Uint8Array>): Promise<{ bytes: Buffer; cut: boolean }> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of body) chunks.push(chunk);
    return { bytes: Buffer.concat(chunks), cut: false };
  } catch (error) {
    throwIfBug(error);
    return { bytes: Buffer.concat(chunks), cut: true };
  }
}

export async function errorOf(answer: Dispatcher.ResponseData): Promise<{ status: number; code: string }> {
  const body = (await answer.body.json()) as { errors: { code: string }[] };
  return { status: answer.statusCode, code: body.errors[0]!.code };
}
