import { CodedError, isCoded, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { request } from 'undici';
import { z } from 'zod';
import { METRICS_MS } from '../deadlines.ts';
import { bytesText } from '../terminal/format.ts';
import { debugProof } from './debug-proof.ts';
import type { DoorChoice } from './door.ts';

const LAYERS = z.array(
  z.object({
    indexFile: z.string(),
    image: z.string(),
    layer: z.string().optional(),
    diffId: z.string().optional(),
    state: z.enum(['lazy', 'complete', 'hidden', 'refused']),
    reason: z.string().optional(),
    spans: z.number(),
    spansHere: z.number(),
  }),
);

const IMAGES = z.array(
  z.object({
    image: z.string(),
    manifest: z.string(),
    isLazy: z.boolean(),
    reason: z.string().optional(),
    layers: z.array(z.object({ digest: z.string(), diffId: z.string(), reason: z.string().optional() })),
    atMs: z.number(),
  }),
);

const READS = z.array(
  z.object({
    layer: z.string(),
    isWhole: z.boolean(),
    files: z.array(
      z.object({
        path: z.string(),
        turn: z.number(),
        part: z.object({ offset: z.number(), length: z.number() }).optional(),
      }),
    ),
  }),
);

const CACHE = z.object({
  usedBytes: z.number(),
  budgetBytes: z.number(),
  layers: z.number(),
  layersInUse: z.number(),
  lack: z.string().optional(),
});

const DOOR = z.object({ door: z.union([z.literal(1), z.literal(2)]), at: z.string() });

/** The door that a snapshotter serves: a folder where containerd looks, or a socket. */
export type ServedDoor = z.infer<typeof DOOR>;
export type SnapshotterCache = z.infer<typeof CACHE>;
export type LayerReads = z.infer<typeof READS>[number];
export type SnapshotterImage = z.infer<typeof IMAGES>[number];
export type SnapshotterLayer = z.infer<typeof LAYERS>[number];

/** Admin address of a snapshotter that was not told another. */
export const DEFAULT_SNAPSHOTTER = 'http://127.0.0.1:17502';

/**
 * The layers of the snapshotter on this node.
 * @throws {CodedError} `PEER_HTTP` where none answers at `admin`
 */
export async function snapshotterLayers(admin: string): Promise<SnapshotterLayer[]> {
  return await asked(admin, '/debug/layers', LAYERS);
}

/** The images that were pulled through this node's agent, as they stood then. @throws as {@link snapshotterLayers} */
export async function snapshotterImages(admin: string): Promise<SnapshotterImage[]> {
  return await asked(admin, '/debug/images', IMAGES);
}

/** Files that were read on this node, layer by layer, since its snapshotter started. @throws as {@link snapshotterLayers} */
export async function snapshotterReads(admin: string): Promise<LayerReads[]> {
  return await asked(admin, '/debug/reads', READS);
}

/**
 * How full the disk for layers is; undefined where only those of the snapshotter's config are shown, which stay.
 * @throws as {@link snapshotterLayers}
 */
export async function snapshotterCache(admin: string): Promise<SnapshotterCache | undefined> {
  const [cache] = await asked(admin, '/debug/cache', z.array(CACHE));
  return cache;
}

/** The door by which containerd gets layers here; undefined: a snapshotter that does not say it yet. @throws as {@link snapshotterLayers} */
export async function snapshotterDoor(admin: string): Promise<ServedDoor | undefined> {
  try {
    return await asked(admin, '/debug/door', DOOR);
  } catch (error) {
    if (isCoded(error, 'PEER_HTTP') && error.detail?.['status'] === 404) return undefined;
    throw error;
  }
}

async function asked<T>(admin: string, path: string, schema: z.ZodType<T>, token?: string): Promise<T> {
  try {
    const signal = AbortSignal.timeout(METRICS_MS);
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const { statusCode, body } = await request(`${admin}${path}`, { signal, headers });
    if (statusCode === 200) return schema.parse(await body.json());
    if (statusCode === 401 && token === undefined)
      return await asked(admin, path, schema, await debugProof(admin, await body.text()));
    await body.dump();
    throw new CodedError('PEER_HTTP', {
      message: `${admin} is no snapshotter: it answers ${statusCode}`,
      detail: { status: statusCode },
    });
  } catch (error) {
    throwIfBug(error);
    if (error instanceof CodedError) throw error;
    throw new CodedError('PEER_HTTP', {
      message: `no snapshotter answers at ${admin} (${systemCode(error) ?? (error as Error).message}); images are pulled the ordinary way; "sepia up --lazy" runs one here, --admin URL names another`,
      cause: error,
    });
  }
}

/** A line on the disk for layers. */
export function cacheText(cache: SnapshotterCache | undefined): string {
  if (cache === undefined) return '';
  const { usedBytes, budgetBytes, layers, layersInUse, lack } = cache;
  const size = `${bytesText(usedBytes)} of ${bytesText(budgetBytes)}`;
  return `cache: ${size}, ${layersInUse} of ${layers} layers in use${lack === undefined ? '' : `; ${lack}`}\n`;
}

/**
 * A line on the door, and why it is that one.
 * @param choice what this node could have
 * @param isSetUp whether containerd's config names a door of ours; undefined where that is not known
 */
export function doorText(
  served: ServedDoor | undefined,
  choice: DoorChoice,
  isSetUp: boolean | undefined,
): string {
  if (served === undefined) return '';
  const { door, at } = served;
  const reasons = choice.reasons.join('; ');
  const where =
    door === 1 ? 'a folder for containerd’s erofs snapshotter' : 'a snapshotter for containerd 1.6 to 2.3';
  const why =
    choice.door === 'none' || (door === 1 && choice.door === 2)
      ? `; it does not work here: ${reasons}`
      : door === choice.door
        ? reasons && `; not door 1: ${reasons}`
        : '; door 1 would work here, too';
  const unused = isSetUp === false ? '; containerd does not use it: sepia configure containerd --lazy' : '';
  return `door ${door}: ${at}, ${where}${why}${unused}\n`;
}

/** One line for each layer, with the reason where it is not shown. */
export function statusText(layers: readonly SnapshotterLayer[]): string {
  if (layers.length === 0) return 'no layers: images are pulled the ordinary way\n';
  return layers
    .map((one) => {
      const share = one.spans === 0 ? '' : ` ${Math.floor((100 * one.spansHere) / one.spans)} %`;
      const why = one.reason === undefined ? '' : `: ${one.reason}`;
      return `${one.state.padEnd(8)}${share.padStart(6)}  ${one.image}  ${one.layer ?? one.indexFile}${why}\n`;
    })
    .join('');
}

/** Each image that was pulled here, the newest first: lazy or not, and why, layer by layer. */
export function imagesText(images: readonly SnapshotterImage[], layers: readonly SnapshotterLayer[]): string {
  const shares = new Map(layers.map((one) => [one.layer, one]));
  return images
    .toReversed()
    .map(({ image, manifest, isLazy, reason, layers: own }) => {
      const why = reason === undefined ? '' : `: ${reason}`;
      const lines = own.map(
        (layer) => `  ${layer.digest}  ${layerWord(layer.reason, shares.get(layer.digest))}\n`,
      );
      return `${image}@${manifest}  ${isLazy ? 'lazy' : 'ordinary'}${why}\n${lines.join('')}`;
    })
    .join('');
}

/** Images whose name or manifest a reference means; a tag is looked for by its repository. */
export function imagesOf(images: readonly SnapshotterImage[], reference: string): SnapshotterImage[] {
  const digest = /sha256:[0-9a-f]{64}$/.exec(reference)?.[0];
  const path = reference.replace(/@.*$/, '').replace(/:[^/:]*$/, '');
  return images.filter(({ image, manifest }) => {
    const repository = image.slice(image.indexOf('/') + 1);
    const isNamed = path === repository || path === image || path.endsWith(`/${repository}`);
    return isNamed && (digest === undefined || digest === manifest);
  });
}

function layerWord(reason: string | undefined, here: SnapshotterLayer | undefined): string {
  if (reason !== undefined) return `not lazy: ${reason}`;
  if (here === undefined || here.spans === 0) return 'lazy';
  return `lazy, ${Math.floor((100 * here.spansHere) / here.spans)} % here`;
}
