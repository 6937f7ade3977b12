import { type Digest, Digester, digestAlgorithm, digestHex, digestOf, isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { fits } from '@sepia/cluster/message';
import { compressionOf } from '@sepia/lazy/compression';
import { isIndexType, OCI_MANIFEST, parseManifest } from '@sepia/oci/manifest';
import { z } from 'zod';
import type { BlobSource } from '../registry/registry-client.ts';
import { type Archive, readText } from './archive.ts';

export interface ManifestToPush {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: string;
}

/** What a push sends: blobs first, then manifests, children before what names them; the last one gets the tag. */
export interface ImageToPush {
  readonly blobs: readonly BlobSource[];
  readonly manifests: readonly ManifestToPush[];
  /** The only image that is here of an index whose other children are missing; set only if the last manifest is such an index. */
  readonly alone?: ManifestToPush | undefined;
}

/** Bytes that tell how a layer is compressed. */
const MAGIC_BYTES = 4;
/** Images that an error names. */
const MAX_SHOWN = 10;
const REF_NAME = 'org.opencontainers.image.ref.name';
const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
/** On a child of an index: what it attests of another one, as BuildKit writes it. */
const ATTESTATION_TYPE = 'vnd.docker.reference.type';

/** `index.json` of a layout, as far as it is read here. */
const LAYOUT = z.object({
  manifests: z
    .array(
      z.object({
        digest: z.unknown().optional(),
        mediaType: z.unknown().optional(),
        annotations: z.record(z.string(), z.unknown()).nullish(),
      }),
    )
    .nullish(),
});
type LayoutEntry = NonNullable<z.infer<typeof LAYOUT>['manifests']>[number];
/** `manifest.json` of `docker save`. */
const SAVED = z.array(
  z.object({
    Config: z.string(),
    RepoTags: z.array(z.string()).nullish(),
    // Docker writes null for none.
    Layers: z.array(z.string()).nullable(),
  }),
);

/** Which of several images is meant. `isDemanded`: a single one must have the tag as well. */
export interface SourceTag {
  readonly tag: string;
  readonly isDemanded?: boolean;
}

/**
 * Reads an OCI layout, or what `docker save` wrote. `source` chooses among several images.
 * @throws {CodedError} `REQUEST_INVALID`, `MANIFEST_SYNTAX`, `SIZE_MISMATCH` where a manifest lies about a blob
 */
export async function loadImage(archive: Archive, source: SourceTag): Promise<ImageToPush> {
  const index = await readText(archive, 'index.json');
  const entries = index === undefined ? undefined : (parse(index, 'index.json', LAYOUT).manifests ?? []);
  const saved = await readText(archive, 'manifest.json');
  // Docker saves an image that it knows by digest alone with an empty index beside the list that says what it is.
  if (entries !== undefined && (entries.length > 0 || saved === undefined))
    return await fromLayout(archive, entries, source);
  if (saved !== undefined) return await fromDockerSave(archive, parse(saved, 'manifest.json', SAVED), source);
  throw refuse(`${archive.path} holds neither index.json (an OCI layout) nor manifest.json (docker save)`);
}

async function fromLayout(
  archive: Archive,
  entries: readonly LayoutEntry[],
  { tag, isDemanded }: SourceTag,
): Promise<ImageToPush> {
  const names = entries.map(nameOf);
  // An image may stand there under several names.
  const isOne = new Set(entries.map(({ digest }) => digest)).size === 1;
  const chosen =
    isOne && isDemanded !== true
      ? entries[0]
      : entries[names.findIndex((name) => name === tag || name.endsWith(`:${tag}`))];
  if (chosen === undefined) throw noneTagged('index.json', names, tag);
  const manifests = new Map<Digest, ManifestToPush>();
  const blobs = new Map<Digest, BlobSource>();
  const visit = async (digest: unknown, mediaType: unknown, depth: number): Promise<void> => {
    if (typeof digest !== 'string' || !isDigest(digest) || depth > 3)
      throw refuse('index.json names no valid digest');
    if (manifests.has(digest)) return;
    const text = await readText(archive, layoutPath(digest));
    if (text === undefined) throw refuse(`${layoutPath(digest)} is not there`);
    const bytes = Buffer.from(text, 'utf8');
    if (digestOf(bytes, digestAlgorithm(digest)) !== digest)
      throw refuse(`${layoutPath(digest)} does not match its digest`);
    const parsed = parseManifest(bytes, typeof mediaType === 'string' ? mediaType : undefined);
    for (const one of parsed.descriptors) {
      const found = archive.sizeOf(layoutPath(one.digest));
      const isHere = found !== undefined;
      if (isHere && found !== one.sizeBytes)
        throw new CodedError('SIZE_MISMATCH', {
          message: `blob ${one.digest} of the layout has ${found} bytes; ${digest} says ${one.sizeBytes}`,
          detail: { digest: one.digest, expected: one.sizeBytes, found },
        });
      if (one.kind === 'child') {
        // A layout may leave platforms out; an index may then not be pushed under its digest, which the registry will say.
        if (isHere) await visit(one.digest, one.mediaType, depth + 1);
      } else if (!one.foreign || isHere) blobs.set(one.digest, layoutBlob(archive, one.digest));
    }
    manifests.set(digest, { bytes, digest, mediaType: parsed.mediaType });
    if (depth === 0 && !isIndexType(parsed.mediaType) && blobs.size === 0)
      throw refuse('the manifest names no content');
  };
  await visit(chosen.digest, chosen.mediaType, 0);
  const all = [...manifests.values()];
  return { blobs: [...blobs.values()], manifests: all, alone: aloneOf(all) };
}

function nameOf({ annotations }: LayoutEntry): string {
  const name = annotations?.[REF_NAME];
  return typeof name === 'string' ? name : '';
}

/** See {@link ImageToPush.alone}: what Docker saves of an image of several platforms holds those that were pulled. */
function aloneOf(manifests: readonly ManifestToPush[]): ManifestToPush | undefined {
  const top = manifests.at(-1)!;
  if (!isIndexType(top.mediaType)) return undefined;
  const children = parse(top.bytes.toString('utf8'), top.digest, LAYOUT).manifests ?? [];
  const images = children.filter(({ annotations }) => annotations?.[ATTESTATION_TYPE] === undefined);
  const here = new Map(manifests.map((one) => [one.digest as unknown, one]));
  const found = images.flatMap(({ digest }) => here.get(digest) ?? []);
  return found.length === 1 && children.some(({ digest }) => !here.has(digest)) ? found[0] : undefined;
}

/** @param names of the images of `file`, empty for one without */
function noneTagged(file: string, names: readonly string[], tag: string): CodedError {
  if (names.length === 0) return refuse(`${file} names no image`);
  const shown = names.slice(0, MAX_SHOWN).map((name) => (name === '' ? 'one without a tag' : name));
  if (names.length > shown.length) shown.push(`${names.length - shown.length} more`);
  const advice = names.length === 1 ? 'it is taken without --source-tag' : 'choose one with --source-tag';
  return refuse(`${file} has no image tagged ${tag}, but ${shown.join(', ')}; ${advice}`);
}

async function fromDockerSave(
  archive: Archive,
  images: z.infer<typeof SAVED>,
  { tag, isDemanded }: SourceTag,
): Promise<ImageToPush> {
  const image =
    images.length === 1 && isDemanded !== true
      ? images[0]
      : images.find((one) => one.RepoTags?.some((name) => name.endsWith(`:${tag}`)));
  if (image === undefined)
    throw noneTagged(
      'manifest.json',
      images.map(({ RepoTags }) => RepoTags?.join(' ') ?? ''),
      tag,
    );
  const config = await digested(archive, image.Config);
  const layers: LayerSource[] = [];
  for (const name of image.Layers ?? []) layers.push(await digested(archive, name));
  return imageOf(config, layers);
}

/** A layer; without a suffix it is not compressed. */
interface LayerSource extends BlobSource {
  readonly suffix?: '+gzip' | '+zstd' | undefined;
}

/** An OCI image of these blobs. */
export function imageOf(config: BlobSource, layers: readonly LayerSource[]): ImageToPush {
  const descriptor = (mediaType: string, blob: BlobSource): object => ({
    mediaType,
    digest: blob.digest,
    size: blob.sizeBytes,
  });
  const manifest = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: descriptor(OCI_CONFIG, config),
    layers: layers.map((layer) => descriptor(`${OCI_LAYER}${layer.suffix ?? ''}`, layer)),
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  const blobs = new Map([...layers, config].map((blob) => [blob.digest, blob]));
  return {
    blobs: [...blobs.values()],
    manifests: [{ bytes, digest: digestOf(bytes), mediaType: OCI_MANIFEST }],
  };
}

/** Archives do not say how their layers are compressed: Docker's are not, those of other tools and of its containerd store may be. */
async function digested(archive: Archive, name: string): Promise<LayerSource> {
  const sizeBytes = archive.sizeOf(name);
  if (sizeBytes === undefined) throw refuse(`${name} is not there`);
  // No digest says what it should be: whatever it leads to would be sent.
  if (!archive.isOwn(name))
    throw refuse(`${name} is a link out of ${archive.path}; put the file itself there`);
  const digester = new Digester();
  let head: Uint8Array = new Uint8Array();
  for await (const chunk of archive.open(name) as AsyncIterable<Buffer>) {
    digester.update(chunk);
    if (head.length < MAGIC_BYTES) head = Buffer.concat([head, chunk.subarray(0, MAGIC_BYTES)]);
  }
  const compression = compressionOf(head);
  const suffix = compression === 'none' ? undefined : (`+${compression}` as const);
  return { digest: digester.digest(), sizeBytes, suffix, open: () => archive.open(name) };
}

function layoutBlob(archive: Archive, digest: Digest): BlobSource {
  const path = layoutPath(digest);
  const sizeBytes = archive.sizeOf(path);
  if (sizeBytes === undefined) throw refuse(`${path} is not there`);
  return { digest, sizeBytes, open: () => archive.open(path) };
}

function layoutPath(digest: Digest): string {
  return `blobs/${digestAlgorithm(digest)}/${digestHex(digest)}`;
}

function parse<T extends z.ZodType>(text: string, name: string, schema: T): z.output<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('REQUEST_INVALID', { message: `${name} is not valid JSON`, cause });
  }
  return fits(schema, name)(value);
}

function refuse(message: string): CodedError {
  return new CodedError('REQUEST_INVALID', { message });
}
