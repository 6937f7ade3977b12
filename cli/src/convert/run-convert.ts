import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { CodedError, isCoded, isOutOfRoom } from '@sepia/base/errors';
import { processMemoryBytes } from '@sepia/base/memory/process-memory';
import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import { type ConvertOptions, type ConvertResult, convertImage } from '@sepia/lazy/convert/convert-image';
import type { Document } from '@sepia/lazy/convert/documents';
import type { ImageSource, ImageTarget } from '@sepia/lazy/convert/ends';
import { isLayerRecord } from '@sepia/lazy/convert/layer-job';
import { PackPool } from '@sepia/lazy/pack/pool';
import { fittingThreads } from '@sepia/lazy/pack/threads';
import { JsonFolder } from '@sepia/store/scratch/json-folder';
import { ScratchFile, sweepScratch } from '@sepia/store/scratch/scratch';
import { openArchive } from '../image/archive.ts';
import { loadImage } from '../image/load-image.ts';
import { homeFolder } from '../options/home-folder.ts';
import { commandClient } from '../registry/command-client.ts';
import type { CredentialFlags } from '../registry/credentials.ts';
import type { RegistryClient } from '../registry/registry-client.ts';
import { convertView } from './convert-view.ts';
import { type DiskTarget, diskSource, layoutTarget, tarTarget } from './disk-ends.ts';
import { checkOverwrite } from './overwrite.ts';
import type { Place } from './place.ts';
import { registrySource, registryTarget } from './registry-ends.ts';

export interface RunConvert {
  readonly source: Place;
  readonly target: Place;
  readonly options: Omit<ConvertOptions, 'tag' | 'parallel'>;
  readonly credentials: CredentialFlags;
  /** The result may take the place of its source, or of a tar. */
  readonly replace?: boolean | undefined;
  /** Folder for work and records. */
  readonly workDir: string;
  /** Compression threads; undefined: one per core, fewer where memory is short. */
  readonly threads?: number | undefined;
  /** Where progress is shown; undefined: nowhere. */
  readonly out: NodeJS.WriteStream | undefined;
  readonly signal: AbortSignal;
}

/** Layers worked on at once: one is pulled or pushed while another is compressed. */
const PARALLEL_LAYERS = 2;
const ASSUMED_HINT = 'name a proxy of a running cluster with --proxy URL, or a registry in the reference';
/** Name of an image in a layout whose source has none. */
const LAYOUT_TAG = 'latest';

/**
 * `$XDG_CACHE_HOME/sepia/convert`, as the XDG base directory specification has it.
 * @throws {CodedError} `CONFIG_INVALID` for a user without a home
 */
export function defaultWorkDir(
  env: Readonly<Record<string, string | undefined>>,
  findHome: () => string | undefined = homeFolder,
): string {
  const cache = env['XDG_CACHE_HOME'];
  if (cache !== undefined && cache !== '') return join(cache, 'sepia', 'convert');
  const home = findHome();
  if (home !== undefined) return join(home, '.cache', 'sepia', 'convert');
  throw new CodedError('CONFIG_INVALID', {
    message: 'this user has no home folder: give --work-dir, or set HOME or XDG_CACHE_HOME',
  });
}

/** Converts an image from one place to another. @throws as `convertImage` */
export async function runConvert(run: RunConvert): Promise<ConvertResult> {
  const tag = targetTag(run.target, run.source);
  if (run.replace !== true) checkOverwrite(run.source, run.target, tag);
  const work = join(run.workDir, 'work');
  await sweepScratch(work);
  const cache = await JsonFolder.open(join(run.workDir, 'layers'), isLayerRecord);
  await using pool = new PackPool(
    run.threads ?? fittingThreads(availableParallelism(), processMemoryBytes()),
  );
  const dispatcher = createDispatcher();
  const { source, reference } = await openSource(run.source, run.credentials, dispatcher);
  const { target, ends } = await openTarget(run, dispatcher, work);
  const deps = {
    source,
    target,
    cache,
    packer: pool,
    scratch: () => ScratchFile.create(work),
    report: convertView(run.out),
    signal: run.signal,
  };
  try {
    const result = await convertImage(deps, reference, { ...run.options, tag, parallel: PARALLEL_LAYERS });
    if (result.tocImage !== undefined) await target.putManifest(result.tocImage, tocTag(tag), run.signal);
    await ends?.finish();
    return result;
  } catch (error) {
    if (!isOutOfRoom(error)) throw error;
    const target = run.target.kind === 'disk' ? `, or that of ${run.target.path},` : '';
    throw new CodedError('DISK_FULL', {
      message: `the disk of ${run.workDir}${target} is full`,
      cause: error,
    });
  } finally {
    await ends?.close();
  }
}

/** An image that is read. */
interface OpenSource {
  readonly source: ImageSource;
  readonly reference: string;
  /** The image with the TOCs of its layers, if there is one. */
  readonly tocImage: () => Promise<Document | undefined>;
}

/** A place as an image to read. */
export async function openSource(
  place: Place,
  flags: CredentialFlags,
  dispatcher: Dispatcher,
): Promise<OpenSource> {
  if (place.kind === 'registry') {
    const source = registrySource(clientOf(place, flags, dispatcher), place.repository);
    return {
      source,
      reference: place.reference,
      tocImage: () => orNone(source.manifest(tocTag(place.reference))),
    };
  }
  const archive = await openArchive(place.path);
  const tag = place.tag ?? LAYOUT_TAG;
  const images = [await loadImage(archive, { tag, isDemanded: place.tag !== undefined })];
  const toc = async (): Promise<Document | undefined> => {
    const found = await loadImage(archive, { tag: tocTag(tag), isDemanded: true });
    images.push(found);
    return found.manifests.at(-1);
  };
  return {
    source: diskSource(images),
    reference: images[0]!.manifests.at(-1)!.digest,
    tocImage: () => orNone(toc()),
  };
}

/** Tag of the image with the TOCs of the image with this tag, as stargz-snapshotter looks for it. */
function tocTag(tag: string): string {
  return `${tag}-esgztoc`.slice(0, 128);
}

/** What is not there is nothing; whatever else goes wrong stays an error. */
async function orNone(document: Promise<Document | undefined>): Promise<Document | undefined> {
  try {
    return await document;
  } catch (error) {
    if (isCoded(error, 'MANIFEST_UNKNOWN') || isCoded(error, 'REQUEST_INVALID')) return undefined;
    throw error;
  }
}

async function openTarget(
  { target: place, credentials }: Pick<RunConvert, 'target' | 'credentials'>,
  dispatcher: Dispatcher,
  workDir: string,
): Promise<{ target: ImageTarget; ends?: Pick<DiskTarget, 'finish' | 'close'> }> {
  if (place.kind === 'registry') {
    return { target: registryTarget(clientOf(place, credentials, dispatcher), place.repository) };
  }
  const target = place.isTar ? await tarTarget(place.path, workDir) : layoutTarget(place.path);
  return { target, ends: target };
}

/** On disk: the tag of the source, where a registry has it. */
function targetTag(place: Place, source: Place): string {
  if (place.kind === 'registry') return place.reference;
  return source.kind === 'registry' && !source.reference.includes(':') ? source.reference : LAYOUT_TAG;
}

function clientOf(
  place: Extract<Place, { kind: 'registry' }>,
  flags: CredentialFlags,
  dispatcher: Dispatcher,
): RegistryClient {
  const { url, host, isMember, isAssumed } = place;
  return commandClient(
    { url, host, isMember, ...(isAssumed ? { hint: ASSUMED_HINT } : {}) },
    flags,
    dispatcher,
  );
}
