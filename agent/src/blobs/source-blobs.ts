import { LinkedAbort } from '@sepia/base/async/linked-abort';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import type { Download } from '../downloads/download.ts';
import { fetchFromUpstream, SourceGuide } from '../downloads/source-download.ts';
import type { BackToSource } from '../source/back-to-source.ts';

interface Deps {
  readonly source: BackToSource;
  readonly log: Logger;
  readonly stopped: AbortSignal;
}

/** Blobs that come from the upstream itself, a few at once, because the whole cluster is silent. */
export class SourceBlobs {
  readonly #deps: Deps;
  readonly #goingOn = new Set<Digest>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Size of a blob at the upstream. @throws as {@link BackToSource.ask} */
  async sizeBytes(name: BlobName, cause: unknown): Promise<number> {
    const { source, stopped } = this.#deps;
    return (await source.ask(name, cause, stopped)).sizeBytes;
  }

  /** A download of a blob that nobody is known to have. @throws as {@link BackToSource.ask} */
  async begin(
    name: BlobName,
    cause: unknown,
    told: number | undefined,
    begin: (guide: SourceGuide) => Promise<Download>,
  ): Promise<Download> {
    const { source, stopped, log } = this.#deps;
    const release = await source.enter(name, cause, stopped);
    try {
      const { sizeBytes, client } = await source.ask(name, cause, stopped, told);
      const { digest, upstream } = name;
      log.warn({ digest, upstream }, 'nobody in the cluster answers; asking the upstream itself');
      const guide = new SourceGuide(name, sizeBytes);
      const download = await begin(guide);
      fetchInto(download, { client, name, guide }, untilOver(download, stopped))
        .catch((error: unknown) => download.fail(error))
        .finally(release);
      return download;
    } catch (error) {
      release();
      throw error;
    }
  }

  /**
   * The cluster has gone silent in the middle of a download: the upstream itself brings what is missing, and the same
   * bodies go on. Called again while that lasts it does nothing; where the upstream brings nothing the download waits on.
   */
  goOn(name: BlobName, download: Download, cause: unknown): void {
    const { digest } = name;
    if (this.#goingOn.has(digest)) return;
    this.#goingOn.add(digest);
    this.#bringRest(name, download, cause)
      .catch((error: unknown) => {
        if (download.state === 'running')
          logFailure(this.#deps.log, error, 'the upstream itself brings no more of it', { digest });
      })
      .finally(() => this.#goingOn.delete(digest));
  }

  async #bringRest(name: BlobName, download: Download, cause: unknown): Promise<void> {
    const { source, stopped, log } = this.#deps;
    const signal = untilOver(download, stopped);
    const release = await source.enter(name, cause, signal);
    try {
      const { sizeBytes } = download;
      const { client, ...found } = await source.ask(name, cause, signal, sizeBytes);
      if (found.sizeBytes !== sizeBytes)
        throw new CodedError('SIZE_MISMATCH', { detail: { expected: sizeBytes, found: found.sizeBytes } });
      const { digest, upstream } = name;
      log.warn(
        { digest, upstream },
        'nobody in the cluster answers; the rest comes from the upstream itself',
      );
      await fetchInto(download, { client, name, guide: new SourceGuide(name, sizeBytes) }, signal);
    } finally {
      release();
    }
  }
}

/** Aborted once nobody needs anything more of a download: nothing is fetched then, and its turn is another's. */
function untilOver(download: Download, stopped: AbortSignal): AbortSignal {
  const over = new LinkedAbort(stopped);
  void download.ended.then(() => over.abort(new CodedError('STALE_ATTEMPT')));
  return over.signal;
}

/** Brings what a download lacks. @throws as {@link fetchFromUpstream} */
async function fetchInto(
  download: Download,
  {
    client,
    name,
    guide,
  }: { readonly client: UpstreamClient; readonly name: BlobName; readonly guide: SourceGuide },
  signal: AbortSignal,
): Promise<void> {
  const onPiece = (index: number): void => download.landed(index, 'upstream');
  await fetchFromUpstream(client, name, download.partial, { guide, onPiece }, signal);
  download.sourceDone();
}
