import { HeadBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { CodedError, isCoded } from '@sepia/base/errors';
import { isBug } from '@sepia/base/failure';
import type { Dispatcher } from '@sepia/http/sockets';
import { retryAfterOf } from '@sepia/upstream/retry-after';
import { BUCKET_MS, CALL_MS } from '../deadlines.ts';
import { inTime } from '../in-time.ts';
import { meaningOf } from './core/s3-failure.ts';
import { S3Sender, type S3SenderOptions } from './s3-sender.ts';

/** Where a bucket is. */
export interface S3Place {
  readonly bucket: string;
  readonly region: string;
  /** Of a store that is not AWS. */
  readonly endpoint: string | undefined;
  /** The bucket is part of the path, not of the host name. */
  readonly pathStyle: boolean;
}

export interface S3StoreDeps {
  readonly dispatcher: (url: URL) => Dispatcher;
  /** Closes the sockets. */
  readonly close: () => Promise<void>;
  readonly nowMs: () => number;
  /** Default: what the SDK finds in environment, shared files, or the machine's role. */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string } | undefined;
}

/** One bucket of an S3 store: calls are signed by the SDK and carried by {@link S3Sender}; failures are coded. */
export class S3Store {
  readonly bucket: string;
  /** For people. */
  readonly place: string;
  readonly sender: S3Sender;
  readonly #client: S3Client;
  readonly #nowMs: () => number;
  readonly #close: () => Promise<void>;
  #bucketMs = Number.NEGATIVE_INFINITY;

  constructor(deps: S3StoreDeps, place: S3Place, options: S3SenderOptions) {
    this.bucket = place.bucket;
    this.place = `s3://${place.bucket}${place.endpoint === undefined ? '' : ` at ${new URL(place.endpoint).host}`}`;
    this.sender = new S3Sender(deps, options);
    this.#nowMs = deps.nowMs;
    this.#close = deps.close;
    this.#client = new S3Client({
      region: place.region,
      forcePathStyle: place.pathStyle,
      requestHandler: this.sender.handler,
      // Whoever calls tries again, by the rules of this house.
      maxAttempts: 1,
      // Checksums are named in each call: other ones are not known to every store.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      followRegionRedirects: false,
      ...(place.endpoint === undefined ? {} : { endpoint: place.endpoint }),
      ...(deps.credentials === undefined ? {} : { credentials: deps.credentials }),
    });
  }

  /**
   * Runs a call: `send` gets the client and a signal. Where this machine's clock is wrong it is made again in the store's time,
   * which the SDK learns from the refusal. @throws {CodedError} as `BlobBackend`, and `UPLOAD_UNKNOWN`
   */
  async call<T>(
    send: (client: S3Client, signal: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#once(send, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (tries === 1 && !isBug(error) && (error as Thrown).$metadata?.clockSkewCorrected === true)
          continue;
        throw this.#coded(error);
      }
    }
  }

  async #once<T>(
    send: (client: S3Client, signal: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    signal.throwIfAborted();
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    try {
      // The SDK looks for credentials before it sends, and does not end that with the signal.
      return await inTime(send(this.#client, either), CALL_MS, signal, () =>
        this.#failure('BACKEND_DOWN', `did not take the call within ${CALL_MS / 1000} s`),
      );
    } catch (error) {
      stop.abort(error);
      throw error;
    }
  }

  /** As `call` for an object: "not there" counts where the bucket is. */
  async object<T>(
    send: (client: S3Client, signal: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    try {
      return await this.call(send, signal);
    } catch (error) {
      if (isCoded(error, 'BLOB_UNKNOWN')) await this.#requireBucket(signal);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#client.destroy();
    await this.#close();
  }

  /** An answer to HEAD cannot tell whether the object or its bucket is missing. */
  async #requireBucket(signal: AbortSignal): Promise<void> {
    if (this.#nowMs() - this.#bucketMs < BUCKET_MS) return;
    try {
      const { bucket } = this;
      await this.call(
        async (client, abortSignal) =>
          await client.send(new HeadBucketCommand({ Bucket: bucket }), { abortSignal }),
        signal,
      );
    } catch (error) {
      if (!isCoded(error, 'BLOB_UNKNOWN')) throw error;
      throw this.#failure('UPSTREAM_DENIED', 'there is no such bucket; check backend.s3.bucket', error);
    }
    this.#bucketMs = this.#nowMs();
  }

  #failure(code: ConstructorParameters<typeof CodedError>[0], words: string, cause?: unknown): CodedError {
    return new CodedError(code, { message: `${this.place}: ${words}`, detail: { place: this.place }, cause });
  }

  #coded(error: unknown): unknown {
    if (isCoded(error)) return error;
    const thrown = error as Thrown;
    const status = thrown.$metadata?.httpStatusCode ?? thrown.$response?.statusCode;
    if (status === undefined) {
      if (thrown.name === 'CredentialsProviderError')
        return this.#failure(
          'UPSTREAM_DENIED',
          'the origins have no credentials for it (AWS_ACCESS_KEY_ID, a shared credentials file, or a role of the machine)',
          error,
        );
      if (isBug(error)) return error;
      return this.#failure('BACKEND_DOWN', `call failed (${thrown.name})`, error);
    }
    // What the SDK cannot read is no answer of an S3 store.
    if (status < 300 || thrown.$fault === undefined)
      return this.#failure(
        status < 300 ? 'UPSTREAM_LIES' : 'BACKEND_DOWN',
        `answered ${status} with what is no S3 answer`,
        error,
      );
    const found = meaningOf({ status, code: thrown.name, message: thrown.message });
    const after = retryAfterOf({ headers: thrown.$response?.headers ?? {} }, Date.now());
    return new CodedError(found.code, {
      message: `${this.place}: ${found.words}`,
      detail: {
        ...{ place: this.place, status, s3: thrown.name },
        ...(found.code === 'UPSTREAM_LIMITED' ? { retryAfterSeconds: Math.max(1, after ?? 1) } : {}),
      },
      cause: error,
    });
  }
}

/** What the SDK throws. */
interface Thrown {
  readonly name: string;
  readonly message: string;
  readonly $fault?: string;
  readonly $metadata?: { readonly httpStatusCode?: number; readonly clockSkewCorrected?: boolean };
  readonly $response?: { readonly statusCode?: number; readonly headers?: Readonly<Record<string, string>> };
}
