import { SingleFlight } from '@sepia/base/async/single-flight';
import { boundedMs } from '@sepia/base/bounded-ms';
import { type Digest, digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { isBug, logFailure, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { matcherOf } from '@sepia/base/names/pattern';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { ConversionTask } from '@sepia/cluster/api/conversions';
import { isSignedBinding, LAYER_BINDING, type LayerBinding } from '@sepia/cluster/api/layer-binding';
import type { LazyComplaint, LazyOffer } from '@sepia/cluster/api/lazy-offers';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import { PROFILE_ANSWER } from '@sepia/cluster/api/start-profile';
import type { Cluster } from '@sepia/cluster/cluster';
import { leastBytes } from '@sepia/cluster/conversion-rule';
import { isDefinite } from '@sepia/cluster/core/answers';
import type { ManifestAnswer } from '@sepia/face/manifest-answer';
import type { ProxyClient } from '../cluster/proxy-client.ts';
import {
  AHEAD_MS,
  ASKED_MS,
  BEHIND_MS,
  DOUBT_MS,
  LAZY_CALL_MS,
  OFFER_AGAIN_MS,
  OFFER_MS,
  REFUSED_MS,
} from '../deadlines.ts';
import { readCommand, readDiffIds } from './core/image-config.ts';
import { type PulledImage, PulledImages } from './core/pulled-images.ts';
import type { FormerImages } from './former-images.ts';
import type { Offers } from './offers.ts';

/** Configs above this, in bytes, are refused. */
export const MAX_CONFIG_BYTES = 4 * 1024 * 1024;
const MAX_ASKED = 5_000;
const NOT_INDEXED = 'an image was not handed to be indexed';
const UNANSWERED =
  'the snapshotter of this node did not say in time whether it would be taken for another image here: pull again in a moment';
const NYDUS_UNANSWERED =
  'it is a Nydus image, which is mounted or cannot be used, and the snapshotter of this node did not say in time whether it is: pull again in a moment';

interface Deps {
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly proxies: Pick<ProxyClient, 'json'>;
  readonly offers: Offers;
  readonly former: Pick<FormerImages, 'begin' | 'of'>;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** What the cluster says of a layer. */
interface Told {
  readonly binding: LayerBinding | undefined;
  readonly isUnanswered: boolean;
}

interface Options {
  /** A config is held back at most so long, in ms, where it is known that nothing of another image can be shown. */
  readonly waitMs: number;
  /** And so long where it is not; default: a minute. */
  readonly doubtMs?: number;
  /** Images that come before their pulls have so much more than `waitMs`, together; default: ten seconds. */
  readonly aheadMs?: number;
}

/** An image that comes here before its pull. */
export interface ComingImage {
  /** Name of its config. */
  readonly config: BlobName;
  readonly manifest: ManifestAnswer;
}

/**
 * Makes images lazy at their pull: before the end of a config the node's snapshotter gets the records of all layers, and
 * shows them or not. What has no records yet is put into the queue of indexing, if a rule names it.
 */
export class LazyImages {
  readonly #deps: Deps;
  readonly #options: Options;
  readonly #pulled = new PulledImages();
  readonly #running = new SingleFlight<string, void>();
  readonly #asked = new ExpiringMap<true>(MAX_ASKED);
  readonly #refused = new ExpiringMap<true>(MAX_ASKED);

  constructor(deps: Deps, options: Options) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Notes that a snapshotter asks here. */
  served(): void {
    this.#deps.former.begin();
  }

  /** A manifest went to a client. */
  note(target: ResolvedName, { digest, bytes }: ManifestAnswer): void {
    if (bytes !== undefined) this.#pulled.note(target, { digest, bytes });
  }

  /**
   * Called before the bytes of a blob go out; does nothing unless it is the config of an image that passed.
   * @param client `isRuntime`: it will unpack what it pulls
   * @throws {CodedError} `IMAGE_NOT_MOUNTED` where a runtime could do nothing with a Nydus image; `LAYER_UNPROVEN` where the pull could show another image's layer; what reading the config throws
   */
  async beforeBlob(
    name: BlobName,
    readConfig: (signal: AbortSignal) => Promise<Buffer>,
    { isRuntime, signal }: { readonly isRuntime: boolean; readonly signal: AbortSignal },
  ): Promise<void> {
    const { offers, former, log } = this.#deps;
    let image = this.#pulled.of(name, name.digest);
    if (isRuntime && offers.isServed) image ??= await former.of(name, name.digest, signal);
    if (image === undefined) return;
    if (offers.isServed && image.doubt !== undefined) this.#refuseUnjudged(image, image.doubt);
    if (image.doubt !== undefined) return;
    if (!offers.isServed && this.#ruleFor(image) === undefined) return;
    const publish = async (read: typeof readConfig, until: AbortSignal): Promise<void> =>
      await this.#running.run(
        `${image.manifest} ${image.upstream} ${image.repository}`,
        async (both) => await this.#publish(image, read, both),
        until,
      );
    // Nobody here could show it: the client need not wait for the record's sake.
    if (!offers.isServed) {
      publish(readConfig, AbortSignal.timeout(BEHIND_MS)).catch((error: unknown) =>
        logFailure(log, error, NOT_INDEXED, { manifest: image.manifest }),
      );
      return;
    }
    // The client waits for these bytes anyway: without them it gets an error, never an image that nobody looked at.
    const config = await this.#configOf(image, readConfig, signal);
    try {
      await publish(async () => config, signal);
    } catch (error) {
      if (isBug(error) || isCoded(error, 'LAYER_UNPROVEN')) throw error;
      if (isCoded(error, 'IMAGE_NOT_MOUNTED')) {
        // Whoever only copies it needs no mount.
        if (isRuntime) throw error;
        return;
      }
      signal.throwIfAborted();
      logFailure(log, error, 'an image is pulled the ordinary way', {
        ...image,
        layers: image.layers.length,
      });
    }
  }

  /**
   * Images come here before their pull: their layers are shown, if they can be, so that what a start reads is fetched before
   * the rest of them. Resolves when the snapshotter said so, or says nothing in time, which all of them share.
   */
  async ahead(
    images: readonly ComingImage[],
    readConfig: (config: BlobName, signal: AbortSignal) => Promise<Buffer>,
    signal: AbortSignal,
  ): Promise<void> {
    const { waitMs, aheadMs = AHEAD_MS } = this.#options;
    const soon = AbortSignal.any([signal, AbortSignal.timeout(waitMs + aheadMs)]);
    for (const image of images) {
      if (!soon.aborted) await this.#ahead(image, readConfig, { soon, signal });
    }
  }

  async #ahead(
    { config: name, manifest }: ComingImage,
    readConfig: (config: BlobName, signal: AbortSignal) => Promise<Buffer>,
    { soon, signal }: { readonly soon: AbortSignal; readonly signal: AbortSignal },
  ): Promise<void> {
    this.note(name, manifest);
    try {
      const read = async (until: AbortSignal): Promise<Buffer> => await readConfig(name, until);
      await this.beforeBlob(name, read, { isRuntime: false, signal: soon });
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      logFailure(this.#deps.log, error, 'the start of a preheated image is not fetched first', {
        repository: name.repository,
        manifest: manifest.digest,
      });
    }
  }

  /** Passes on what the snapshotter says of an index. @throws what a proxy named, `NO_PEERS` */
  async complain({ layer, index, reason, ...name }: LazyComplaint): Promise<void> {
    const line = to(PROXY.layerComplaint, { ...name, layer });
    const call = { ...line, json: { index, reason }, headersTimeoutMs: LAZY_CALL_MS };
    await this.#deps.proxies.json(call, AbortSignal.timeout(LAZY_CALL_MS));
  }

  async #publish(
    image: PulledImage,
    readConfig: (signal: AbortSignal) => Promise<Buffer>,
    signal: AbortSignal,
  ): Promise<void> {
    const { offers, nowMs } = this.#deps;
    const config = await readConfig(signal);
    const untilMs = nowMs() + this.#options.waitMs;
    if (digestOf(config, digestAlgorithm(image.config)) !== image.config) return;
    const read = readDiffIds(config, image.layers.length);
    if (read === undefined) return;
    if ('doubt' in read) return this.#refuseUnjudged(image, read.doubt);
    const { diffIds } = read;
    // Whatever the cluster says or does not: the snapshotter is asked, with time left for it.
    const half = AbortSignal.timeout(boundedMs((untilMs - nowMs()) / 2));
    const either = AbortSignal.any([signal, half]);
    const [bindings, readFirst] = await Promise.all([
      this.#bindings(image, either),
      // For who shows the layers; without a snapshotter nobody reads it.
      offers.isServed ? this.#recorded(image, either) : undefined,
    ]);
    if (bindings.some((one) => one.binding === undefined && !one.isUnanswered)) this.#askForIndexes(image);
    if (!offers.isServed) return;
    const { upstream, repository, manifest, isNydus } = image;
    const layers = offered(image, diffIds, bindings);
    const command = readCommand(config);
    const asked = {
      ...{ upstream, repository, manifest, isNydus, layers },
      ...(command === undefined ? {} : { command }),
      ...(readFirst === undefined ? {} : { readFirst }),
      ...this.#whyNever(image),
    };
    // What a record names for each layer is its own. Else nobody but the snapshotter knows what is found under these names.
    const isProven = layers.every(({ binding, diffId }) => binding?.diffId === diffId);
    const answer = await this.#judged(asked, { isProven, untilMs }, signal);
    if (answer?.refusal !== undefined) this.#refuse(image, answer.refusal);
    if (answer?.unusable !== undefined) this.#refuse(image, answer.unusable, 'IMAGE_NOT_MOUNTED');
    if (answer !== undefined) return;
    if (isNydus) this.#refuse(image, NYDUS_UNANSWERED, 'IMAGE_NOT_MOUNTED');
    if (!isProven) this.#refuse(image, UNANSWERED);
  }

  /** What the snapshotter says, asked until it has decided or the time is over; undefined where it says nothing. */
  async #judged(
    asked: Parameters<Offers['offer']>[0],
    { isProven, untilMs }: { readonly isProven: boolean; readonly untilMs: number },
    signal: AbortSignal,
  ): Promise<Awaited<ReturnType<Offers['offer']>>> {
    const { offers, nowMs } = this.#deps;
    const doubtMs = nowMs() + (this.#options.doubtMs ?? DOUBT_MS);
    let answer = await offers.offer(asked, untilMs - nowMs());
    // Nobody could use a Nydus image that is not shown: there is more time for it.
    if (asked.isNydus) answer ??= await offers.offer(asked, OFFER_MS);
    const isOpen = (): boolean =>
      answer === undefined ? !isProven && !asked.isNydus : answer.isPending === true;
    while (isOpen() && nowMs() < doubtMs && !signal.aborted) {
      const again = await offers.offer(asked, Math.min(OFFER_MS, doubtMs - nowMs()));
      answer = again ?? answer;
      if (again === undefined && !(await pause(OFFER_AGAIN_MS, signal))) break;
    }
    return answer;
  }

  /** Not let through: nobody can say what it would show, or it is of no use. @throws {CodedError} of that code */
  #refuse(
    image: PulledImage,
    why: string,
    code: 'LAYER_UNPROVEN' | 'IMAGE_NOT_MOUNTED' = 'LAYER_UNPROVEN',
  ): never {
    const { upstream, repository, manifest } = image;
    const message = why.includes(manifest) ? why : `${repository}@${manifest}: ${why}`;
    if (this.#isNews(`${code} ${manifest}`))
      this.#deps.log.warn(
        { code, upstream, repository, manifest, reason: why },
        'the pull of an image is refused',
      );
    throw new CodedError(code, { message, detail: { manifest } });
  }

  /** As {@link #refuse}, of an image that the snapshotter is not asked about: it is told, for `sepia lazy status`. */
  #refuseUnjudged(image: PulledImage, why: string): never {
    const { upstream, repository, manifest } = image;
    if (this.#isNews(`told ${upstream} ${repository} ${manifest}`)) {
      const told = { upstream, repository, manifest, isNydus: false, layers: [] };
      void this.#deps.offers.offer({ ...told, reason: `its pull is refused: ${why}` }, OFFER_MS);
    }
    this.#refuse(image, why);
  }

  #isNews(key: string): boolean {
    const nowMs = this.#deps.nowMs();
    if (this.#refused.get(key, nowMs) !== undefined) return false;
    this.#refused.set(key, true, nowMs + REFUSED_MS);
    return true;
  }

  async #configOf(
    image: PulledImage,
    readConfig: (signal: AbortSignal) => Promise<Buffer>,
    signal: AbortSignal,
  ): Promise<Buffer> {
    try {
      return await readConfig(signal);
    } catch (error) {
      if (!isCoded(error, 'SIZE_MISMATCH')) throw error;
      return this.#refuseUnjudged(image, `its config is larger than ${MAX_CONFIG_BYTES} bytes`);
    }
  }

  /** Records of all layers, and where nobody says whether there is one. */
  async #bindings(image: PulledImage, signal: AbortSignal): Promise<Told[]> {
    return await Promise.all(
      image.layers.map(async ({ digest }): Promise<Told> => {
        const { upstream, repository } = image;
        const line = to(PROXY.layer, { upstream, repository, layer: digest });
        const call = { ...line, headersTimeoutMs: LAZY_CALL_MS };
        try {
          const { binding } = await this.#deps.proxies.json<{ binding?: unknown }>(call, signal);
          const parsed = LAYER_BINDING.safeParse(binding);
          const isRight =
            parsed.success &&
            parsed.data.layer === digest &&
            isSignedBinding(this.#deps.clusterKey, parsed.data);
          return { binding: isRight ? parsed.data : undefined, isUnanswered: false };
        } catch (error) {
          throwIfBug(error);
          // A "no" of the cluster is one: this repository does not have the layer.
          return { binding: undefined, isUnanswered: !(isCoded(error) && isDefinite(error)) };
        }
      }),
    );
  }

  /** What a recorded start read first; without it the image is as lazy. */
  async #recorded(image: PulledImage, signal: AbortSignal): Promise<string[] | undefined> {
    const { upstream, repository, manifest } = image;
    const call = { ...to(PROXY.profile, { upstream, repository, manifest }), headersTimeoutMs: LAZY_CALL_MS };
    try {
      const answer = PROFILE_ANSWER.safeParse(await this.#deps.proxies.json<unknown>(call, signal));
      return answer.success ? answer.data.profile?.paths : undefined;
    } catch (error) {
      throwIfBug(error);
      return undefined;
    }
  }

  #whyNever({ upstream }: PulledImage): { reason?: string } {
    return this.#deps.cluster.upstream(upstream)['fetch-with'] === 'client'
      ? { reason: `upstream ${upstream} is read with the clients' own credentials only (fetch-with: client)` }
      : {};
  }

  #ruleFor(image: PulledImage) {
    const sizeBytes = image.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
    return this.#deps.cluster.document.conversions.find(
      (rule) =>
        rule.to === 'index' &&
        rule.from === image.upstream &&
        sizeBytes >= leastBytes(rule) &&
        matcherOf(rule.repositories)(image.repository),
    );
  }

  #askForIndexes(image: PulledImage): void {
    const { proxies, nowMs, log } = this.#deps;
    const rule = this.#ruleFor(image);
    if (rule === undefined || this.#asked.get(image.manifest, nowMs()) !== undefined) return;
    this.#asked.set(image.manifest, true, nowMs() + ASKED_MS);
    const { upstream, repository, manifest } = image;
    const task: ConversionTask = { kind: 'index', rule: rule.name, upstream, repository, tag: manifest };
    const call = { ...to(PROXY.conversionAdd), json: { task }, headersTimeoutMs: LAZY_CALL_MS };
    proxies.json(call, AbortSignal.timeout(LAZY_CALL_MS)).catch((error: unknown) => {
      // The next pull asks again.
      this.#asked.delete(manifest);
      logFailure(log, error, NOT_INDEXED, { manifest });
    });
  }
}

function offered(
  image: PulledImage,
  diffIds: readonly Digest[],
  bindings: readonly Told[],
): LazyOffer['layers'] {
  return image.layers.map(({ digest, sizeBytes }, index) => {
    const { binding, isUnanswered } = bindings[index]!;
    const known = binding === undefined ? {} : { binding };
    return { digest, sizeBytes, diffId: diffIds[index]!, isUnanswered, ...known };
  });
}
