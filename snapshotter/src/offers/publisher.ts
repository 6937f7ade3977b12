import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { LazyAnswer, LazyOffer } from '@sepia/cluster/api/lazy-offers';
import { type Conflict, imageConflicts } from '@sepia/lazy/erofs/image-conflicts';
import type { TreeNode } from '@sepia/lazy/erofs/layer-tree';
import type { LayerKind } from '@sepia/lazy/index/layer-index';
import { type ByteString, textOf } from '@sepia/lazy/tar/byte-string';
import { MARGIN_MS, OFFERS_AGAIN_MS } from '../deadlines.ts';
import type { LazyLayer } from '../layers/lazy-layer.ts';
import type { AgentCalls } from './agent-calls.ts';
import type { Claim, Findable } from './core/findable.ts';
import { type JudgedLayer, judge, partOf, type Verdict, whyMisfit } from './core/judge.ts';
import type { ImageTable } from './image-table.ts';
import { type LayerProofs, MAX_PROOFS } from './layer-proofs.ts';

interface Deps {
  readonly agent: Pick<AgentCalls, 'offers' | 'answer'>;
  /** What is found by diffID alone; undefined where containerd asks with the name of the image's manifest (door 2). */
  readonly findable: Findable | undefined;
  /** Nydus images are another snapshotter's. */
  readonly leavesNydus: boolean;
  readonly images: ImageTable;
  /** Layers that were bound to a diffID when they came here. */
  readonly layersOf: (diffId: Digest) => readonly Digest[];
  readonly kindOf: (diffId: Digest) => LayerKind | undefined;
  readonly proofs: Pick<LayerProofs, 'diffIdOf' | 'prove'>;
  /** Opens a layer whose record was checked, fetching its index; shows nothing yet. */
  readonly open: (
    offer: LazyOffer,
    layer: LazyOffer['layers'][number],
    signal: AbortSignal,
  ) => Promise<LazyLayer>;
  /** Makes a layer findable for containerd. */
  readonly show: (layer: LazyLayer) => Promise<void>;
  /** All layers of an image may be shown to who pulls it now. */
  readonly grant: (offer: LazyOffer) => void;
  /** The image will be started from these layers; must not throw. */
  readonly expectStart: (offer: LazyOffer, layers: readonly LazyLayer[]) => void;
  readonly log: Logger;
  /** A clock that never goes back. */
  readonly nowMs: () => number;
  readonly wallMs: () => number;
}

/** What came of showing an image. */
interface Outcome {
  readonly isLazy: boolean;
  readonly reason?: string;
  readonly layers: readonly JudgedLayer[];
  /** Asked again, it may be otherwise. */
  readonly isPending?: boolean;
}

const MAX_UNUSABLE = 1_000;
const LEFT = 'it is a Nydus image, which this node leaves to nydus-snapshotter (nydus: leave)';

/**
 * Shows images at their pull: takes them from the agent, which holds the config back meanwhile. All layers of an image
 * or none, and none once the time is over.
 */
export class Publisher {
  readonly #deps: Deps;
  readonly #abort = new AbortController();
  readonly #running = new Set<Promise<void>>();
  /** Layers that are read whole while no pull waits for it. */
  readonly #proving = new Set<Digest>();
  /** How many of those were begun: claims are read in turns. */
  #turns = 0;
  readonly #loop: Promise<void>;
  #lastFailure: string | undefined = 'the agent was not asked yet';
  #isRefused = false;

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#loop = this.#run();
  }

  /** Why the agent takes no call of this node; undefined: it does, or is silent. */
  get refusal(): string | undefined {
    return this.#isRefused ? this.#lastFailure : undefined;
  }

  /** Why no pull becomes lazy now; undefined: the agent answers. */
  get lack(): string | undefined {
    return this.#lastFailure;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#loop;
    await Promise.allSettled(this.#running);
  }

  async #run(): Promise<void> {
    const { agent, log } = this.#deps;
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        const offers = await agent.offers(signal);
        this.#lastFailure = undefined;
        this.#isRefused = false;
        for (const offer of offers) this.#begin(offer);
      } catch (error) {
        if (signal.aborted) return;
        const reason = (error as Error).message;
        if (reason !== this.#lastFailure) logFailure(log, error, 'the agent does not say what is pulled');
        throwIfBug(error);
        this.#lastFailure = reason;
        this.#isRefused = isCoded(error, 'SIGNATURE_INVALID');
        await pause(OFFERS_AGAIN_MS, signal);
      }
    }
  }

  #begin(offer: LazyOffer): void {
    const { log, agent } = this.#deps;
    const run = async (): Promise<void> => {
      try {
        const answer = await this.#publish(offer);
        await agent.answer(offer.id, answer);
      } catch (error) {
        // Too late: the pull goes on the ordinary way, and the next one finds all prepared.
        if (!isCoded(error, 'COMMAND_UNKNOWN'))
          logFailure(log, error, 'an image was not shown', { repository: offer.repository });
      }
    };
    this.#track(run());
  }

  #track(work: Promise<void>): void {
    const run = work.finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  async #publish(offer: LazyOffer): Promise<LazyAnswer> {
    const { images, nowMs, wallMs } = this.#deps;
    const untilMs = nowMs() + offer.waitMs - MARGIN_MS;
    const { verdict, absent } = await this.#judge(offer, untilMs);
    const [unproven] = [...verdict.forged, ...verdict.unproven];
    if (unproven !== undefined) {
      const isMisfit = verdict.misfits.includes(unproven.digest);
      const reason = isMisfit
        ? `its layer ${unproven.digest}: ${verdict.layers.find(({ digest }) => digest === unproven.digest)?.reason}`
        : whyRefused(unproven, this.#deps.proofs.diffIdOf(unproven.digest), absent.has(unproven.digest));
      images.note(offer, { isLazy: false, reason, layers: verdict.layers }, wallMs());
      const isPending = verdict.forged.length === 0 && absent.size === 0;
      return { isShown: false, refusal: `${offer.repository}@${offer.manifest}: ${reason}`, isPending };
    }
    if (offer.isNydus && this.#deps.leavesNydus) {
      images.note(offer, { isLazy: false, reason: LEFT, layers: verdict.layers }, wallMs());
      return { isShown: false };
    }
    const outcome = verdict.isLazy ? await this.#show(offer, untilMs) : notShown(offer, verdict);
    images.note(offer, outcome, wallMs());
    if (outcome.isLazy || !offer.isNydus) return { isShown: outcome.isLazy };
    const { isPending = false } = outcome as Outcome;
    return { isShown: false, unusable: whyNotMounted(offer, outcome), isPending };
  }

  /**
   * What is not proven by records is read whole, as far as there is time; the reading goes on for the next pull.
   * `absent`: what is not in the image's repository, so that there is nothing to read.
   */
  async #judge(offer: LazyOffer, untilMs: number): Promise<{ verdict: Verdict; absent: Set<Digest> }> {
    const { nowMs } = this.#deps;
    const verdict = this.#verdict(offer);
    const absent = new Set<Digest>();
    if (verdict.unproven.length === 0 || verdict.forged.length > 0) return { verdict, absent };
    const reading = verdict.unproven.map(async (one) => {
      if (!(await this.#prove(claimOf(offer, one)))) absent.add(one.digest);
    });
    const over = new AbortController();
    const late = pause(untilMs - nowMs(), AbortSignal.any([over.signal, this.#abort.signal]));
    await Promise.race([Promise.all(reading), late]);
    over.abort();
    return { verdict: this.#verdict(offer), absent };
  }

  /** In one turn: what is decided to be shown later sees the claims of an image that goes out, and what was before is judged. */
  #verdict(offer: LazyOffer): Verdict {
    const { findable, layersOf, kindOf, proofs, nowMs } = this.#deps;
    const verdict = judge(offer, {
      isShown: (diffId) => findable?.isShown(diffId) === true,
      ...{ layersOf, kindOf },
      readDiffId: (layer) => proofs.diffIdOf(layer),
    });
    // A Nydus image, too: what is not shown is refused to who calls itself containerd, and goes out to others.
    if (verdict.unproven.length === 0)
      findable?.claim(
        verdict.claims.map((one) => claimOf(offer, one)),
        nowMs(),
      );
    return verdict;
  }

  /** False where the layer's repository does not have it. */
  async #prove({ upstream, repository, ...layer }: Claim): Promise<boolean> {
    const { proofs, log } = this.#deps;
    try {
      await proofs.prove({ host: upstream, repository }, layer);
      return true;
    } catch (error) {
      throwIfBug(error);
      const level = isCoded(error, 'MEMBER_BUSY') ? 'debug' : 'warn';
      logFailure(log, error, 'a layer could not be read whole', { layer: layer.digest }, level);
      // Another's reading may have been joined, which says nothing of this repository.
      const { host, repository: asked } = isCoded(error, 'BLOB_UNKNOWN') ? (error.detail ?? {}) : {};
      return host !== upstream || asked !== repository;
    }
  }

  /** Not waited for: what they hold is known at a later pull. A few at a time; each has its turn, whatever comes of it. */
  #proveSome(claims: readonly Claim[]): void {
    const { proofs, log } = this.#deps;
    const unknown = [...new Map(claims.map((one) => [one.digest, one])).values()].filter(
      ({ digest }) => proofs.diffIdOf(digest) === undefined && !this.#proving.has(digest),
    );
    const from = this.#turns % Math.max(1, unknown.length);
    const inTurn = [...unknown.slice(from), ...unknown.slice(0, from)];
    for (const claim of inTurn.slice(0, MAX_PROOFS - this.#proving.size)) {
      const { digest } = claim;
      this.#turns += 1;
      this.#proving.add(digest);
      const proving = this.#prove(claim)
        .catch((error: unknown) =>
          logFailure(log, error, 'a layer could not be read whole', { layer: digest }),
        )
        .then(() => undefined)
        .finally(() => this.#proving.delete(digest));
      this.#track(proving);
    }
  }

  /** Why an image's layers may not be found now; undefined: from now on they count as shown. */
  #whyNotFound(offer: LazyOffer): string | undefined {
    const { findable, proofs, nowMs } = this.#deps;
    const bound = new Map(offer.layers.map(({ digest, diffId }) => [digest, diffId]));
    const diffIds = offer.layers.map(({ diffId }) => diffId);
    const holds = (claim: Claim): Digest | undefined => {
      if (offer.isNydus) return meansTheSame(claim, offer) ? bound.get(claim.digest) : undefined;
      return bound.get(claim.digest) ?? proofs.diffIdOf(claim.digest);
    };
    const showing = findable?.show(diffIds, holds, nowMs());
    if (showing === undefined || showing.isShown) return undefined;
    this.#proveSome(showing.claims);
    // One that was found false stands for its day, whatever is read yet.
    const claim = showing.claims.find((one) => holds(one) !== undefined) ?? showing.claims[0];
    return claim === undefined
      ? 'more images than can be remembered were pulled here with layers that nobody knows: for a day nothing new is shown'
      : whyHeldBack(claim, holds(claim));
  }

  async #show(offer: LazyOffer, untilMs: number): Promise<Outcome> {
    const { open, show, grant, expectStart, nowMs, log } = this.#deps;
    const outcomes = await Promise.all(
      offer.layers.map(async (one): Promise<JudgedLayer & { layer?: LazyLayer }> => {
        const { digest, diffId } = one;
        try {
          const layer = await open(offer, one, this.#abort.signal);
          const misfit = whyOther(offer, one, layer);
          if (misfit !== undefined) return { digest, diffId, reason: misfit };
          return { digest, diffId, reason: undefined, layer };
        } catch (error) {
          throwIfBug(error);
          logFailure(log, error, 'a layer cannot be lazy', { layer: digest });
          return { digest, diffId, reason: (error as Error).message };
        }
      }),
    );
    const layers = outcomes.map(({ digest, diffId, reason }) => ({ digest, diffId, reason }));
    const opened = outcomes.flatMap(({ layer }) => (layer === undefined ? [] : [layer]));
    if (opened.length < layers.length) return { isLazy: false, layers };
    const conflict = await conflictOf(opened);
    if (conflict !== undefined) {
      const reason = `its layers, mounted, would differ from what is unpacked (${conflict.reason}: ${textOf(conflict.path)})`;
      return { isLazy: false, reason, layers };
    }
    if (nowMs() > untilMs)
      return { isLazy: false, reason: 'its indexes came too late for this pull', layers, isPending: true };
    const reason = this.#whyNotFound(offer);
    if (reason !== undefined) return { isLazy: false, reason, layers };
    // The lowest last: containerd begins there, and without it looks no further.
    for (const layer of opened.toReversed()) await show(layer);
    grant(offer);
    expectStart(offer, opened);
    return { isLazy: true, layers };
  }
}

/** Where no layer can say why, the image does. */
function notShown({ reason }: LazyOffer, { layers }: Verdict): Outcome {
  return { isLazy: false, layers, ...(layers.length > 0 || reason === undefined ? {} : { reason }) };
}

/** Why an open layer is not what its image has it for. A bootstrap opens no blob that its image does not name itself. */
function whyOther(
  offer: LazyOffer,
  named: LazyOffer['layers'][number],
  { index }: Pick<LazyLayer, 'index'>,
): string | undefined {
  const foreign = index.sources.find(({ digest }) => !offer.layers.some((one) => one.digest === digest));
  if (foreign !== undefined)
    return `its bootstrap needs the data blob ${foreign.digest}, which is no layer of the image`;
  return whyMisfit(partOf(offer, named), [index.kind]);
}

function whyNotMounted(
  { repository, manifest }: LazyOffer,
  { reason, layers }: Pick<Outcome, 'reason' | 'layers'>,
): string {
  const bad = layers.find((one) => one.reason !== undefined);
  const why = reason ?? `its layer ${bad?.digest}: ${bad?.reason}`;
  const text = `${repository}@${manifest}: it is a Nydus image, which no runtime unpacks, and it is not mounted: ${why}`;
  return text.slice(0, MAX_UNUSABLE);
}

/** What the layers, mounted, would show otherwise than unpacked; from the bottom to the top. */
async function conflictOf(layers: readonly LazyLayer[]): Promise<Conflict | undefined> {
  return (await layers[0]?.lowestConflict()) ?? imageConflicts(await outlines(layers))[0];
}

/** What is needed of the layers' trees to find conflicts: nothing where none of them only implies a directory. */
async function outlines(layers: readonly LazyLayer[]): Promise<TreeNode[]> {
  const implied = new Set<ByteString>(layers.flatMap((one) => one.implied));
  if (implied.size === 0) return [];
  return await Promise.all(layers.map((one) => one.outline([...implied])));
}

function claimOf(offer: LazyOffer, layer: LazyOffer['layers'][number]): Claim {
  const { upstream, repository, manifest } = offer;
  const { digest, sizeBytes, diffId } = layer;
  return { digest, sizeBytes, diffId, upstream, repository, manifest, part: partOf(offer, layer) };
}

/**
 * True if an image that was pulled with this claim may find what a Nydus image shows for the layer: an empty tree for a
 * data blob; the tree of a bootstrap only where it is that image itself, pulled before its index was there, since another
 * one may have the bootstrap and no right to its data blobs. What an ordinary image means it never finds.
 */
function meansTheSame(claim: Claim, offer: LazyOffer): boolean {
  if (claim.part !== partOf(offer, claim)) return false;
  if (claim.part === 'nydus-blob') return true;
  return (
    claim.manifest === offer.manifest &&
    claim.upstream === offer.upstream &&
    claim.repository === offer.repository
  );
}

function whyHeldBack({ repository, digest, diffId }: Claim, found: Digest | undefined): string {
  const said = `an image of ${repository} that is pulled here says that its layer ${digest} is ${diffId}`;
  return found === undefined
    ? `${said}; that layer is read whole in its turn to see whether it is true, and until then nothing is shown under it`
    : `${said}, but that holds ${found}: until a day after its pull nothing is shown under it`;
}

function whyRefused(
  { digest, diffId }: LazyOffer['layers'][number],
  found: Digest | undefined,
  isAbsent: boolean,
): string {
  if (found === undefined && isAbsent)
    return `it names ${diffId} as its layer ${digest}, which is another image's here, and that layer is not in its repository`;
  return found === undefined
    ? `it names ${diffId} as its layer ${digest}, which is another image's here; that layer is being read whole to see whether it is the same, pull again in a moment`
    : `it names ${diffId} as its layer ${digest}, which holds ${found}: no runtime unpacks it`;
}
