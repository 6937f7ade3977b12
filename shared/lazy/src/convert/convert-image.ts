import { Slots, settleAll } from '@sepia/base/async/slots';
import type { Digest } from '@sepia/base/digest';
import { isManifestType } from '@sepia/oci/manifest';
import type { Packer } from '../pack/batch.ts';
import { Copies } from './copies.ts';
import {
  type Document,
  diffIdsOf,
  isAttestation,
  isConfigOf,
  isPlatform,
  isReadableLayer,
  type NewLayer,
  newConfig,
  newIndex,
  newManifest,
  platformText,
  type RawDescriptor,
  type ResultMarks,
  readDocument,
  type SourceDocument,
} from './documents.ts';
import type { ConvertReport, ImageSource, ImageTarget } from './ends.ts';
import { besideSource, type ResultForm } from './image-index.ts';
import { LargeLayers } from './large-layers.ts';
import { convertLayer, type LayerOptions, type LayerRecord, layerKey } from './layer-job.ts';
import { hasLargeTables, nydusAlready, nydusImage } from './nydus-image.ts';
import { optionsMark } from './options-mark.ts';
import { nothingWanted } from './platforms.ts';
import { isNydusLayer } from './results.ts';
import type { MakeScratch } from './scratch.ts';
import { tocImageOf } from './toc-image.ts';
import { type WorkBounds, WorkLimits } from './work-limits.ts';

/** Remembers converted layers between runs, by {@link layerKey}. */
export interface LayerCache {
  get(key: string): Promise<LayerRecord | undefined>;
  put(key: string, record: LayerRecord): Promise<void>;
}

export interface ConvertDeps {
  readonly source: ImageSource;
  readonly target: ImageTarget;
  readonly cache: LayerCache;
  readonly packer: Packer;
  readonly scratch: MakeScratch;
  readonly report: ConvertReport;
  readonly bounds?: WorkBounds;
  /** Of the whole process; left out: of this conversion alone. */
  readonly largeLayers?: LargeLayers;
  readonly signal?: AbortSignal | undefined;
}

export interface ConvertOptions extends LayerOptions {
  /** `os/architecture[/variant]`; undefined: every platform of the image. */
  readonly platforms?: readonly string[] | undefined;
  /** Tag of the result; undefined: it has a digest only. */
  readonly tag: string | undefined;
  /** Default: `tag`. */
  readonly form?: ResultForm | undefined;
  /** Layers worked on at once. */
  readonly parallel: number;
}

/** What became of one layer, and whether a record of before said so already. */
export interface LayerOutcome {
  readonly source: RawDescriptor;
  readonly record: LayerRecord;
  readonly isFromCache: boolean;
}

/** The image that came of a conversion, and what became of its parts. */
export interface ConvertResult {
  readonly source: Document;
  readonly result: Document;
  readonly layers: readonly LayerOutcome[];
  /** Manifests that were copied as they are: attestations, artifacts. */
  readonly copied: readonly Digest[];
  /** Prioritized files that no layer has. */
  readonly missing: readonly string[];
  /** The image with the TOCs, where they are not in the layers; it is stored by digest, its tag is the caller's. */
  readonly tocImage?: Document;
}

/**
 * Converts an image: every platform that is wanted, each layer once, everything else of the source kept; media types
 * become OCI's. Layers that cannot be converted stay as they are. The result's bytes depend on the source and the
 * options only.
 * @throws {CodedError} what source and target throw, `MANIFEST_SYNTAX`, `LAYER_INVALID`, `DIGEST_MISMATCH`
 */
export async function convertImage(
  deps: ConvertDeps,
  reference: string,
  options: ConvertOptions,
): Promise<ConvertResult> {
  const abort = new AbortController();
  const signal = deps.signal === undefined ? abort.signal : AbortSignal.any([deps.signal, abort.signal]);
  const conversion = new Conversion({ ...deps, signal }, options, abort);
  const source = await deps.source.manifest(reference, deps.signal);
  const converted = await conversion.document(source, 0);
  if (converted === undefined) throw nothingWanted(options.platforms ?? []);
  const copied = conversion.copied();
  const result = options.form === 'image-index' ? await conversion.beside(source, converted) : converted;
  await deps.target.putManifest(result, options.tag, deps.signal);
  const layers = conversion.outcomes();
  const missing = missingOfAll(options.prioritized, layers);
  const tocImage = options.externalToc ? await conversion.tocImage() : undefined;
  return {
    source,
    result,
    layers,
    copied,
    missing,
    ...(tocImage === undefined ? {} : { tocImage }),
  };
}

class Conversion {
  readonly #deps: ConvertDeps & { readonly signal: AbortSignal };
  readonly #options: ConvertOptions;
  /** The first failure of a layer stops the others. */
  readonly #abort: AbortController;
  readonly #layers = new Map<Digest, Promise<LayerOutcome>>();
  readonly #done = new Map<Digest, LayerOutcome>();
  readonly #slots: Slots;
  readonly #limits: WorkLimits;
  readonly #largeLayers: LargeLayers;
  readonly #marks: ResultMarks;
  readonly #copies: Copies;
  /** Converted forms of children, however often an index names one. */
  readonly #children = new Map<string, Promise<Document | undefined>>();

  constructor(
    deps: ConvertDeps & { readonly signal: AbortSignal },
    options: ConvertOptions,
    abort: AbortController,
  ) {
    this.#deps = deps;
    this.#options = options;
    this.#abort = abort;
    this.#slots = new Slots({ slots: options.parallel });
    this.#limits = new WorkLimits(deps.bounds);
    this.#copies = new Copies(deps, this.#limits);
    this.#largeLayers = deps.largeLayers ?? new LargeLayers();
    this.#marks = {
      format: options.format,
      options: optionsMark({ ...options, form: undefined }),
      refersToSource: options.form === 'referrer',
    };
  }

  /** In the order in which the image names them. */
  outcomes(): readonly LayerOutcome[] {
    return [...this.#layers.keys()].flatMap((digest) => this.#done.get(digest) ?? []);
  }

  /** What stayed as it is. */
  copied(): readonly Digest[] {
    return this.#copies.documents;
  }

  /** The converted form of a manifest or index, its parts stored; undefined if nothing of it is wanted. */
  async document(source: Document, depth: number): Promise<Document | undefined> {
    const parsed = readDocument(source.bytes, source.mediaType);
    if (parsed.kind === 'other') return await this.#copies.document(source, depth);
    this.#limits.document(depth);
    if (parsed.kind === 'index') return await this.#index(source, parsed, depth);
    return await this.#image(source, parsed, depth);
  }

  async #index(
    source: Document,
    parsed: Extract<SourceDocument, { kind: 'index' }>,
    depth: number,
  ): Promise<Document | undefined> {
    const { platforms } = this.#options;
    const isWanted = (child: RawDescriptor): boolean =>
      platforms === undefined || isAttestation(child) || isPlatform(child, platforms);
    const wanted = parsed.children.filter(isWanted);
    if (!wanted.some((child) => !isAttestation(child)) && parsed.children.length > 0) return undefined;
    const children = [];
    for (const old of wanted) {
      if (!isManifestType(old.mediaType)) {
        await this.#copies.parts([old]);
        children.push(old);
        continue;
      }
      const now = await this.#childOnce(old, depth + 1);
      if (now !== undefined) children.push(now.digest === old.digest ? old : { old, now });
    }
    return newIndex(source, parsed.json, children, this.#marks);
  }

  /** Converts and stores what an index names, however often it is named; undefined if nothing of it is wanted. */
  async #childOnce(old: RawDescriptor, depth: number): Promise<Document | undefined> {
    const isCopied = isAttestation(old) || platformText(old) === 'unknown/unknown';
    const key = `${isCopied} ${old.mediaType} ${old.digest}`;
    const begun = this.#children.get(key);
    if (begun !== undefined) {
      this.#limits.document(0);
      return await begun;
    }
    const made = this.#child(old, isCopied, depth);
    this.#children.set(key, made);
    return await made;
  }

  async #child(old: RawDescriptor, isCopied: boolean, depth: number): Promise<Document | undefined> {
    const document = await this.#copies.manifestOf(old);
    const now = isCopied
      ? await this.#copies.document(document, depth)
      : await this.document(document, depth);
    if (now !== undefined) await this.#deps.target.putManifest(now, undefined, this.#deps.signal);
    return now;
  }

  /** An index of the source and, behind it, its converted form; both are stored. */
  async beside(source: Document, converted: Document): Promise<Document> {
    const { target, signal } = this.#deps;
    await this.#copies.document(source, 0);
    const parsed = readDocument(source.bytes, source.mediaType);
    if (parsed.kind !== 'index')
      for (const one of [source, converted]) await target.putManifest(one, undefined, signal);
    const config = parsed.kind === 'image' ? await this.#copies.small(parsed.config) : undefined;
    return besideSource(source, converted, config, {
      format: this.#options.format,
      options: optionsMark(this.#options),
    });
  }

  async #image(
    source: Document,
    image: Extract<SourceDocument, { kind: 'image' }>,
    depth: number,
  ): Promise<Document | undefined> {
    if (image.layers.some(isNydusLayer)) throw nydusAlready(source);
    this.#limits.image(image.layers);
    const config = await this.#copies.small(image.config);
    // Of an index its descriptor decided.
    const { platforms } = this.#options;
    if (depth === 0 && platforms !== undefined && !isConfigOf(config, platforms)) return undefined;
    const diffIds = diffIdsOf(config, image.layers.length);
    const outcomes = await settleAll(image.layers.map((layer, index) => this.#layer(layer, diffIds[index]!)));
    if (this.#options.format === 'nydus') return await this.#nydus(source, image, config, outcomes);
    const now = outcomes.map(newLayerOf);
    const nextIds = diffIds.map((id, index) => now[index]?.diffId ?? id);
    const nextConfig = newConfig(config, diffIds, nextIds);
    await this.#copies.bytes(nextConfig);
    return newManifest(source, image, nextConfig, now, this.#marks);
  }

  /** All layers of a Nydus image are of Nydus: if one cannot be, the image stays as it is. */
  async #nydus(
    source: Document,
    image: Extract<SourceDocument, { kind: 'image' }>,
    config: Buffer,
    outcomes: readonly (LayerOutcome | undefined)[],
  ): Promise<Document> {
    const marks = this.#marks;
    const { chunkBytes, compressor = 'zstd', prioritized } = this.#options;
    const records = outcomes.map((outcome) => outcome?.record);
    using claim = this.#largeLayers.claim(this.#deps.signal);
    if (hasLargeTables(records)) await claim.take();
    const how = { chunkBytes, compressor, prioritized, packer: this.#deps.packer };
    const made = await nydusImage({ source, image, config, records, marks, ...how });
    if ('unfit' in made) {
      await this.#copies.parts([image.config, ...image.layers]);
      for (const layer of image.layers) {
        const kept = { kind: 'kept', reason: made.unfit, missing: prioritized } as const;
        this.#done.set(layer.digest, { source: layer, record: kept, isFromCache: false });
      }
      const now = outcomes.map(() => undefined);
      return newManifest(source, image, newConfig(config, [], []), now, marks);
    }
    for (const part of made.parts) await this.#copies.bytes(part);
    return made.manifest;
  }

  /** Converts a layer once, however many manifests name it. */
  async #layer(layer: RawDescriptor, diffId: Digest): Promise<LayerOutcome | undefined> {
    if (!isReadableLayer(layer.mediaType)) {
      await this.#copies.parts([layer]);
      return undefined;
    }
    const begun = this.#layers.get(layer.digest);
    if (begun !== undefined) return await begun;
    const outcome = this.#slots.run(() => this.#convert(layer, diffId));
    this.#layers.set(layer.digest, outcome);
    try {
      const done = await outcome;
      this.#done.set(layer.digest, done);
      return done;
    } catch (error) {
      this.#abort.abort(error);
      throw error;
    }
  }

  async #convert(layer: RawDescriptor, diffId: Digest): Promise<LayerOutcome> {
    const { cache, target, signal, report, scratch, packer } = this.#deps;
    signal.throwIfAborted();
    const key = layerKey(layer.digest, layerOptionsOf(this.#options));
    const known = await cache.get(key);
    if (known !== undefined && (await this.#isThere(known, layer))) {
      if (known.kind === 'converted') this.#limits.convertedBefore(known);
      report.layerDone(layer, known, true);
      return { source: layer, record: known, isFromCache: true };
    }
    const { record, blob } = await convertLayer(
      {
        pull: (take, until) => this.#pull(layer, take, until),
        sizeBytes: layer.sizeBytes,
        ...{ diffId, scratch, packer, signal, largeLayers: this.#largeLayers },
        onUnpacked: (bytes) => this.#limits.unpacked(bytes),
        onProgress: (phase, done, of) => report.layer(layer, phase, done, of),
      },
      layerOptionsOf(this.#options),
    );
    if (record.kind === 'converted' && blob !== undefined) {
      try {
        report.layer(layer, 'push', 0, record.sizeBytes);
        const { digest, sizeBytes } = record;
        await target.putBlob({ digest, sizeBytes, open: (start, end) => blob.stream(start, end) }, signal);
      } finally {
        await blob[Symbol.asyncDispose]();
      }
    } else await this.#copies.parts([layer]);
    await cache.put(key, record);
    report.layerDone(layer, record, false);
    return { source: layer, record, isFromCache: false };
  }

  async #pull(
    layer: RawDescriptor,
    take: (chunk: Uint8Array) => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let done = 0;
    const counted = async (chunk: Uint8Array): Promise<void> => {
      this.#limits.came(chunk.length);
      await take(chunk);
      done += chunk.length;
      this.#deps.report.layer(layer, 'pull', done, layer.sizeBytes);
    };
    await this.#deps.source.blob(layer, counted, signal);
  }

  /** A record helps only while the target still has the blob, and those only who have the layer that it was made from. */
  async #isThere(record: LayerRecord, layer: RawDescriptor): Promise<boolean> {
    if ((await this.#deps.source.has?.(layer.digest, this.#deps.signal)) === false) return false;
    const { digest, sizeBytes } = record.kind === 'converted' ? record : layer;
    return await this.#deps.target.has(digest, sizeBytes, this.#deps.signal);
  }

  /** @returns the manifest, stored by its digest */
  async tocImage(): Promise<Document> {
    const { config, manifest, layers } = tocImageOf(this.outcomes().map(({ record }) => record));
    for (const part of [...layers, config]) await this.#copies.bytes(part);
    await this.#deps.target.putManifest(manifest, undefined, this.#deps.signal);
    return manifest;
  }
}

/** Names that are missing in every layer; a list may have hundreds of thousands. */
function missingOfAll(names: readonly string[], layers: readonly LayerOutcome[]): readonly string[] {
  const missing = layers.map(({ record }) => new Set(record.missing));
  return names.filter((name) => missing.every((of) => of.has(name)));
}

function newLayerOf(outcome: LayerOutcome | undefined): NewLayer | undefined {
  const record = outcome?.record;
  return record?.kind === 'converted' ? record : undefined;
}

/** What of the options decides a layer's bytes. */
function layerOptionsOf({
  platforms: _,
  tag: __,
  parallel: ___,
  form: ____,
  ...layer
}: ConvertOptions): LayerOptions {
  return layer;
}
