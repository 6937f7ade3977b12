import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import {
  isReplaced,
  moved,
  owedAgain,
  owing,
  paid,
  type TagState,
} from '../../src/records/core/tag-record.ts';
import type { CopyName, ImageCopy } from '../../src/replication/image-copy.ts';
import type { OpenJob, ReplicationJob } from '../../src/replication/replication-jobs.ts';
import type { Target } from '../../src/replication/targets.ts';
import { WriteBackWork } from '../../src/write-back/write-back.ts';

const D: Digest = `sha256:${'d'.repeat(64)}` as Digest;
const HERE = { digest: D, how: 'push', by: 'o1' } as const;
const NAME = { upstream: 'hub', repository: 'team/app' };
const MAX_RUNS = 10;

type Step = () => Promise<void>;

/** A manifest and its tag here and at the registry; every step of a run is one of the schedule. */
class World {
  readonly tags = new Map<string, Digest>([['v1', D]]);
  hasManifest = true;
  isLinked = false;
  state: TagState | undefined = { checkedAtMs: 2, owed: { sinceMs: 2, base: D, ours: [] } };
  #clock = 10;
  readonly #policy: string;

  constructor(policy: string) {
    this.#policy = policy;
  }

  async push(step: Step): Promise<void> {
    await step();
    this.isLinked = true;
    await step();
    this.state = owing(this.state, moved(this.state, { ...HERE, atMs: ++this.#clock }), undefined);
  }

  /** Tries again whatever passes, as the queue does. */
  async run(kind: ReplicationJob['kind'], reference: string, step: Step): Promise<void> {
    const facts = { v: 1, rule: 'write-back/hub', state: 'waiting', createdAtMs: 1, tries: 0 } as const;
    const job = { ...facts, ...NAME, reference, kind, ...(kind === 'copy' ? { digest: D } : {}) };
    const open: OpenJob = { ...NAME, id: 'j', atMs: 1, job };
    for (let runs = 1; ; runs++)
      try {
        return await this.#work(step).run([open], ...this.#target(step), new AbortController().signal);
      } catch (error) {
        if (!isCoded(error, 'CONFLICT') || runs >= MAX_RUNS) throw error;
      }
  }

  #work(step: Step): WriteBackWork {
    const world = this;
    const tags = {
      state: async () => {
        await step();
        return world.state;
      },
      paid: async (_name: unknown, seen: Digest | undefined, isNew: boolean) => {
        await step();
        const isLost = isNew && isReplaced(world.state, seen);
        world.state = isLost
          ? owing(world.state, world.state!, seen ?? null)
          : paid(world.state, seen, ++world.#clock);
        return !isLost;
      },
      owedAgain: async (_name: unknown, digest: Digest) => {
        await step();
        world.state = owedAgain(world.state, digest);
        return world.state;
      },
    };
    const tagIndex = {
      async *list() {
        await step();
        if (world.state?.digest !== undefined) yield { tag: 'v1', digest: world.state.digest };
      },
    };
    const links = {
      find: async () => {
        await step();
        return world.isLinked ? {} : undefined;
      },
      isDeleted: async () => {
        await step();
        return !world.isLinked;
      },
    };
    const log = silentLogger();
    return new WriteBackWork({ tags, tagIndex, links, log, onConflict: () => undefined } as never);
  }

  #target(step: Step): [Target, ImageCopy] {
    const client = {
      headManifest: async (_repository: string, reference: string) => {
        await step();
        if (reference === D) return this.hasManifest ? D : undefined;
        return this.tags.get(reference);
      },
      deleteManifest: async (_repository: string, reference: string) => {
        await step();
        if (reference !== D) return void this.tags.delete(reference);
        this.hasManifest = false;
        for (const [tag, digest] of this.tags) if (digest === D) this.tags.delete(tag);
      },
    };
    const copy = {
      one: async ({ beforeTag }: CopyName, digest: Digest, tag: string | undefined) => {
        await step();
        if (tag === undefined ? this.hasManifest : this.tags.get(tag) === digest) return;
        await beforeTag?.();
        await step();
        this.hasManifest = true;
        if (tag !== undefined) this.tags.set(tag, digest);
      },
    };
    const target = {
      client,
      referrers: { leaves: async () => undefined },
      writeBack: { 'on-conflict': this.#policy },
    } as unknown as Target;
    return [target, copy as unknown as ImageCopy];
  }
}

t.test('property: a manifest that is pushed again beside its delete keeps its tag', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.constantFrom('ours', 'theirs', 'stop'), async (s, policy) => {
      const world = new World(policy);
      const step: Step = async () => void (await s.schedule(Promise.resolve()));
      const pushed = world.push(step).then(async () => await world.run('copy', 'v1', step));
      await s.waitFor(Promise.all([world.run('delete', D, step), pushed]));
      if (world.tags.get('v1') !== D || !world.hasManifest || world.state?.owed !== undefined)
        throw new CodedError('INTERNAL', { message: JSON.stringify(world) });
    }),
  );
  t.pass('held');
});
