import type { Digest } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import t, { type Test } from 'tap';
import {
  isReplaced,
  moved,
  owing,
  paid,
  type TagState,
  takenAway,
} from '../../src/records/core/tag-record.ts';
import type { CopyName, ImageCopy } from '../../src/replication/image-copy.ts';
import type { OpenJob } from '../../src/replication/replication-jobs.ts';
import type { Target } from '../../src/replication/targets.ts';
import { WriteBackWork } from '../../src/write-back/write-back.ts';

const [A, B] = ['a', 'b'].map((letter) => `sha256:${letter.repeat(64)}`) as [Digest, Digest];
const NAME = { upstream: 'hub', repository: 'team/app', reference: 'v1' };
const FACTS = {
  v: 1,
  rule: 'write-back/hub',
  kind: 'copy',
  state: 'waiting',
  createdAtMs: 1,
  tries: 0,
} as const;
const JOB: OpenJob = { ...NAME, id: 'j', atMs: 1, job: { ...FACTS, ...NAME, digest: A } };

const DELETE: OpenJob = { ...NAME, id: 'd', atMs: 1, job: { ...FACTS, ...NAME, kind: 'delete' } };

function pushed(before: TagState | undefined, digest: Digest, atMs: number): TagState {
  return owing(before, moved(before, { digest, atMs, how: 'push', by: 'o1' }), undefined);
}

/** A tag that the registry has, and that was taken away here. */
const there = paid(pushed(undefined, A, 1), A, 1)!;
const deleted = owing(there, takenAway(there, { atMs: 2, how: 'delete', by: 'o1' })!, undefined);

/**
 * Runs the job of A, or that of its delete; `during` and `after` happen to its tag before and behind the put at the registry,
 * `between` with the first look there. `there`: what it has when it is looked at the first and the second time.
 */
async function run(
  t: Test,
  {
    during,
    after,
    between,
    isDelete = false,
    there = [],
  }: {
    readonly between?: (state: TagState) => TagState;
    readonly isDelete?: boolean;
    readonly during?: (state: TagState) => TagState;
    readonly after?: (state: TagState) => TagState;
    readonly there?: readonly (Digest | undefined)[];
  },
): Promise<{ puts: Digest[]; deletes: string[]; state: TagState; error: unknown }> {
  let state = isDelete ? deleted : pushed(undefined, A, 1);
  let looks = 0;
  const puts: Digest[] = [];
  const deletes: string[] = [];
  const seen = [...there];
  const copy = {
    one: async ({ beforeTag }: CopyName, digest: Digest) => {
      state = during?.(state) ?? state;
      if ((await beforeTag?.()) !== false) puts.push(digest);
      state = after?.(state) ?? state;
    },
  };
  const tags = {
    state: async () => state,
    yield: async () => t.fail('nobody yields'),
    paid: async (_name: unknown, seen: Digest | undefined, isNew: boolean) => {
      const isLost = isNew && isReplaced(state, seen);
      state = isLost ? owing(state, state, seen ?? null) : paid(state, seen, 9)!;
      return !isLost;
    },
  };
  const links = { find: async () => undefined, isDeleted: async () => false };
  const work = new WriteBackWork({
    tags: tags as never,
    tagIndex: { async *list() {} },
    links,
    log: silentLogger(),
    onConflict: () => t.fail('no conflict'),
  });
  const target = {
    client: {
      headManifest: async () => {
        looks += 1;
        if (looks === 1) state = between?.(state) ?? state;
        return seen.shift();
      },
      deleteManifest: async () => void deletes.push('v1'),
    },
    writeBack: { 'on-conflict': 'ours' },
  } as unknown as Target;
  const error: unknown = await work
    .run([isDelete ? DELETE : JOB], target, copy as unknown as ImageCopy, new AbortController().signal)
    .catch((thrown: unknown) => thrown);
  return { puts, deletes, state, error };
}

/** Another origin brings a later push to the registry. */
const overtake = (state: TagState): TagState => paid(pushed(state, B, 2), B, 3)!;

t.test('a push that another origin overtook while it was copied is not put over the later one', async (t) => {
  const { puts, state, error } = await run(t, { during: overtake });
  t.same(puts, []);
  t.match(state, { digest: B, owed: undefined });
  t.match(error, { code: 'CONFLICT' });
});

t.test('one that is overtaken in the moment of its put: the later one is owed again', async (t) => {
  const { puts, state, error } = await run(t, { after: overtake });
  t.same(puts, [A]);
  t.match(state, { digest: B, owed: { base: A, ours: [B] } });
  t.match(error, { code: 'CONFLICT' }, 'the job is tried again');
});

t.test('a push that only waits here is no reason: its own job follows', async (t) => {
  const { puts, state, error } = await run(t, { during: (before) => pushed(before, B, 2) });
  t.same(puts, [A]);
  t.match(state, { digest: B, owed: { base: A } });
  t.equal(error, undefined);
});

t.test('what another origin put there while it was copied is not put once more', async (t) => {
  const { puts, state, error } = await run(t, { there: [undefined, A] });
  t.same(puts, []);
  t.match(state, { digest: A, owed: undefined });
  t.equal(error, undefined);
});

t.test('a tag that was changed there while it was copied is decided anew', async (t) => {
  const { puts, state, error } = await run(t, { there: [undefined, B] });
  t.same(puts, []);
  t.match(state, { digest: A, owed: { ours: [A] } });
  t.match(error, { code: 'CONFLICT' });
});

t.test('a tag is taken away at the registry as it was found there', async (t) => {
  const { deletes, state, error } = await run(t, { isDelete: true, there: [A, A] });
  t.same(deletes, ['v1']);
  t.equal(state.owed, undefined);
  t.equal(error, undefined);
});

t.test('a delete takes no later push away that another origin brought there meanwhile', async (t) => {
  for (const seen of [A, B]) {
    const { deletes, state, error } = await run(t, {
      ...{ isDelete: true, there: [A, seen] },
      between: (before) => paid(pushed(before, B, 3), B, 4)!,
    });
    t.same(deletes, []);
    t.match(state, { digest: B, owed: undefined });
    t.match(error, { code: 'CONFLICT' });
  }
});

t.test('a delete that another origin made meanwhile, and a tag that was changed there', async (t) => {
  const done = await run(t, { isDelete: true, there: [A, undefined] });
  t.same(done.deletes, []);
  t.equal(done.state.owed, undefined);
  t.equal(done.error, undefined);
  const changed = await run(t, { isDelete: true, there: [A, B] });
  t.same(changed.deletes, []);
  t.match(changed.state, { owed: { base: A } });
  t.match(changed.error, { code: 'CONFLICT' });
});
