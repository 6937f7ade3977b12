import { type Digest, digestOf, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { parseRepositoryName, parseTag } from '@sepia/base/names/repository';
import { referrersOf } from '@sepia/upstream/referrers/referrer-list';
import { isReplaced, type TagState } from '../records/core/tag-record.ts';
import type { Links } from '../records/links.ts';
import type { TagIndex } from '../records/tag-index.ts';
import type { TagName, Tags } from '../records/tags.ts';
import { listedBy, passes } from '../replication/core/replication.ts';
import type { ImageCopy } from '../replication/image-copy.ts';
import type { OpenJob } from '../replication/replication-jobs.ts';
import type { Target } from '../replication/targets.ts';
import { type OnConflict, type TagStep, type Take, tagStep } from './core/tag-step.ts';

interface WriteBackDeps {
  readonly tags: Pick<Tags, 'state' | 'paid' | 'yield' | 'owedAgain'>;
  readonly tagIndex: Pick<TagIndex, 'list'>;
  readonly links: Pick<Links, 'find' | 'isDeleted'>;
  readonly log: Logger;
  /** A tag was changed at the registry while a change of it waited here; `outcome`: who won. */
  readonly onConflict: (upstream: string, outcome: OnConflict) => void;
}

/**
 * Carries out jobs that bring what was pushed to the registry behind: what is there already is not sent again, the tag
 * comes last, and then its register says that nothing is owed. Done twice it does nothing twice.
 */
export class WriteBackWork {
  readonly #deps: WriteBackDeps;

  constructor(deps: WriteBackDeps) {
    this.#deps = deps;
  }

  /**
   * All jobs are of one tag, or of one manifest. @throws `WRITE_BACK_CONFLICT` when an operator must say who wins; what
   * the registry and the copy fail with
   */
  async run(jobs: readonly OpenJob[], target: Target, copy: ImageCopy, signal: AbortSignal): Promise<void> {
    const { tags, log } = this.#deps;
    const { upstream, repository: text, reference } = jobs[0]!.job;
    const repository = parseRepositoryName(text);
    const kept = jobs.filter(({ job }) => job.take !== 'drop');
    if (kept.length < jobs.length) log.warn({ upstream, repository, reference }, 'a push is given up');
    if (isDigest(reference)) {
      if (kept.length === 0) return;
      const isDelete = kept.some(({ job }) => job.kind === 'delete');
      if (isDelete) await this.#deleteManifest({ upstream, repository }, reference, target, signal);
      const isHere = await this.#manifest({ upstream, repository }, reference, copy);
      if (isDelete && isHere) await this.#tagsOf({ upstream, repository }, reference, target, copy, signal);
      return;
    }
    const name = { upstream, repository, tag: parseTag(reference) };
    const state = await tags.state(name);
    // What the tag pointed at before was acknowledged too: it is there by its digest.
    for (const digest of new Set(kept.map(({ job }) => job.digest)))
      if (digest !== undefined && digest !== state?.digest && isDigest(digest))
        await this.#manifest(name, digest, copy);
    if (state?.owed === undefined) return;
    const isMeant = ({ job }: OpenJob): boolean => job.digest === state.digest;
    const isDropped = jobs.some(isMeant) && !kept.some(isMeant);
    const take = isDropped ? 'drop' : kept.findLast(({ job }) => job.take !== undefined)?.job.take;
    await this.#tag(name, state, target, copy, take, signal);
  }

  async #tag(
    name: TagName,
    state: TagState,
    target: Target,
    copy: ImageCopy,
    take: Take | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { tags, log } = this.#deps;
    const { client, writeBack } = target;
    const { digest: wanted } = state;
    const listed = listedBy(name.tag);
    const found = (await client.headManifest(name.repository, name.tag, signal)) ?? null;
    const known = state.owed!;
    const isOwn =
      listed !== undefined && found !== wanted && (await this.#isOwnList(name, found, target, signal));
    const owed = isOwn ? { ...known, ours: [...known.ours, found!] } : known;
    const step = tagStep({ wanted: wanted ?? null, found, owed }, writeBack!['on-conflict'], take);
    this.#note(name, step);
    switch (step.type) {
      case 'there':
        break;
      case 'put':
        await copy.one(
          { ...name, beforeTag: async () => await this.#isToChange(name, wanted, found, target, signal) },
          wanted!,
          name.tag,
        );
        break;
      case 'delete':
        if (await this.#isToChange(name, wanted, found, target, signal))
          await client.deleteManifest(name.repository, name.tag, signal);
        break;
      case 'yield':
        await tags.yield(name, wanted, step.to);
        return log.warn({ ...name, to: step.to, lost: wanted }, 'the registry behind wins a conflict');
      case 'stop':
        throw conflict(name, wanted ?? null, step.found);
    }
    if (listed !== undefined && (step.type === 'put' || step.type === 'there'))
      await this.#unlessRefused(name, signal, async () => await copy.relist(name, listed));
    if (!(await tags.paid(name, wanted, step.type !== 'there'))) throw overtaken(name);
  }

  /** Whether a list of referrers there names only what is here, too: this cluster put it there, as far as anyone can tell. */
  async #isOwnList(
    name: TagName,
    found: Digest | null,
    { client }: Target,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { upstream, repository, tag } = name;
    if (found === null) return false;
    const read = async (): Promise<Buffer | undefined> => await client.readManifest(repository, tag, signal);
    const bytes = await this.#unlessRefused(name, signal, read);
    const entries = bytes === undefined || digestOf(bytes) !== found ? [] : (referrersOf(bytes) ?? []);
    for (const { digest } of entries)
      if ((await this.#deps.links.find({ upstream, repository, digest })) === undefined) return false;
    return entries.length > 0;
  }

  /** A refusal that is about the list of referrers holds up no push. */
  async #unlessRefused<T>(
    name: TagName,
    signal: AbortSignal,
    work: () => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      if (!isCoded(error) || passes(error.code)) throw error;
      this.#deps.log.warn(
        { err: error, ...name },
        'the list of referrers of an image cannot be read or kept',
      );
      return undefined;
    }
  }

  /**
   * A copy takes long, and this origin may have stood still: another one that took it for dead may have done the same there
   * meanwhile (false: it is not done once more), or brought a later push, and others may have changed the tag, which is
   * decided anew then.
   */
  async #isToChange(
    { upstream, repository, tag }: TagName,
    wanted: Digest | undefined,
    found: Digest | null,
    { client }: Target,
    signal: AbortSignal,
  ): Promise<boolean> {
    const name = { upstream, repository, tag };
    const state = await this.#deps.tags.state(name);
    if (isReplaced(state, wanted)) throw overtaken(name);
    const now = (await client.headManifest(repository, tag, signal)) ?? null;
    const isDone = now === (wanted ?? null);
    if (!isDone && now !== found) throw overtaken(name);
    return !isDone;
  }

  #note({ upstream, repository, tag }: TagName, step: TagStep): void {
    const { log, onConflict } = this.#deps;
    if (step.type === 'yield') onConflict(upstream, 'theirs');
    if (step.type === 'stop') onConflict(upstream, 'stop');
    if (!('over' in step)) return;
    onConflict(upstream, 'ours');
    log.warn(
      { upstream, repository, tag, over: step.over },
      'a push wins over a change at the registry behind',
    );
  }

  /** A manifest by its digest, unless a delete took it here: false then. */
  async #manifest(
    name: Pick<TagName, 'upstream' | 'repository'>,
    digest: Digest,
    copy: ImageCopy,
  ): Promise<boolean> {
    const { upstream, repository } = name;
    const link = await this.#deps.links.find({ upstream, repository, digest }, { fresh: true });
    if (link !== undefined) await copy.one({ upstream, repository }, digest, undefined);
    return link !== undefined;
  }

  /**
   * A manifest was pushed again beside its delete, which takes its tags at the registry with it: also one whose run saw
   * it there before, and paid.
   */
  async #tagsOf(
    name: Pick<TagName, 'upstream' | 'repository'>,
    digest: Digest,
    target: Target,
    copy: ImageCopy,
    signal: AbortSignal,
  ): Promise<void> {
    const { tags, tagIndex } = this.#deps;
    const listed: TagName[] = [];
    for await (const one of tagIndex.list(name))
      if (one.digest === digest) listed.push({ ...name, tag: parseTag(one.tag) });
    for (const one of listed) {
      const found = await target.client.headManifest(name.repository, one.tag, signal);
      if (found !== undefined && found !== digest) continue;
      const state = found === undefined ? await tags.owedAgain(one, digest) : await tags.state(one);
      if (state?.owed !== undefined && state.digest === digest)
        await this.#tag(one, state, target, copy, undefined, signal);
    }
  }

  /** Nothing if it was pushed again meanwhile, or is gone there: a registry that deletes nothing refuses that too. */
  async #deleteManifest(
    name: Pick<TagName, 'upstream' | 'repository'>,
    digest: Digest,
    target: Target,
    signal: AbortSignal,
  ): Promise<void> {
    if (!(await this.#deps.links.isDeleted({ ...name, digest }))) return;
    if ((await target.client.headManifest(name.repository, digest, signal)) === undefined) return;
    await target.referrers.leaves(name.repository, digest, signal);
    await target.client.deleteManifest(name.repository, digest, signal);
  }
}

/** The job is tried again, and finds what is owed then. */
function overtaken({ repository, tag }: TagName): CodedError {
  const message = `another origin wrote a later ${repository}:${tag} meanwhile`;
  return new CodedError('CONFLICT', { message, detail: { repository, tag } });
}

function conflict(name: TagName, wanted: Digest | null, found: Digest | null): CodedError {
  const [here, there] = [wanted ?? 'deleted', found ?? 'deleted'];
  return new CodedError('WRITE_BACK_CONFLICT', {
    message: `${name.repository}:${name.tag} was changed at the registry to ${there} while ${here} waited here`,
    detail: { repository: name.repository, tag: name.tag, here, there },
  });
}
