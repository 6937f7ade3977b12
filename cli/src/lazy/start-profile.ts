import { CodedError } from '@sepia/base/errors';
import { pathLine } from '@sepia/cluster/core/path-line';
import { imagesOf, type LayerReads, type SnapshotterImage } from './snapshotter-status.ts';

/** What a start of an image read. */
export interface StartProfile {
  /** Manifest of the image. */
  readonly image: string;
  /** Files and parts of large ones (`pathLine`), in the order of their first reads. */
  readonly paths: readonly string[];
  /** Layers of which reads are not seen: whole on this node, so mounted without the snapshotter. */
  readonly unseen: readonly string[];
}

/** A name that a list of lines cannot hold, that begins as a comment, or that would command a terminal. */
const UNFIT = /^#|[\p{Cc}\uFFFD]/u;

/**
 * The files of an image that were read on a node, from the layers of its latest pull there. Names that are no text or
 * hold control characters are left out.
 * @throws {CodedError} `REQUEST_INVALID` where the image was not pulled there lazily, or nothing of it was read
 */
export function profileOf(
  reference: string,
  images: readonly SnapshotterImage[],
  reads: readonly LayerReads[],
): StartProfile {
  const latest = imagesOf(images, reference).at(-1);
  if (latest === undefined || !latest.isLazy)
    throw new CodedError('REQUEST_INVALID', {
      message: `${reference} was not pulled lazily on this node; "sepia lazy status" says why`,
    });
  const own = new Set(latest.layers.map(({ digest }) => digest));
  const layers = reads.filter(({ layer }) => own.has(layer));
  const files = layers.flatMap((one) => one.files).sort((a, b) => a.turn - b.turn);
  const fit = files.filter(({ path }) => !UNFIT.test(path));
  const paths = [...new Set(fit.map(({ path, part }) => pathLine(path, part)))];
  if (paths.length === 0)
    throw new CodedError('REQUEST_INVALID', {
      message: `nothing of ${reference} was read since the snapshotter started; run a container of it first`,
    });
  const unseen = layers.filter((one) => one.isWhole).map(({ layer }) => layer);
  return { image: `${latest.image}@${latest.manifest}`, paths, unseen };
}

/** A profile as a list for `sepia convert --prioritize` and the snapshotter's `fill-first`. */
export function profileText({ image, paths }: StartProfile): string {
  return `# ${image}: files in the order in which a start read them\n${paths.join('\n')}\n`;
}
