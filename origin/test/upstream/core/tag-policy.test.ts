import t from 'tap';
import {
  decideTag,
  defaultPolicy,
  mayAsk,
  mayMove,
  setFault,
  staleAge,
  TagPolicies,
  type TagPolicy,
  type TagRules,
} from '../../../src/upstream/core/tag-policy.ts';

const SEEN = { digest: 'sha256:a', checkedAtMs: 1_000 };

function rules(policy: TagPolicy, mode: TagRules['mode'] = 'pull-through'): TagRules {
  return { mode, policy, ttlMs: 100, staleLimitMs: 5_000 };
}

t.test('the first override that matches rules a tag, else the upstream', async (t) => {
  const policies = new TagPolicies({
    mode: 'pull-through',
    tags: {
      ttl: 100,
      'stale-limit': 5_000,
      overrides: [
        { repositories: ['team/**'], tags: ['v*'], policy: 'immutable', ttl: 7 },
        { repositories: ['team/**', 'few/x'], policy: 'mutable', 'stale-limit': 9 },
      ],
    },
  });
  t.same(policies.rulesOf('team/app', 'v1'), {
    mode: 'pull-through',
    policy: 'immutable',
    ttlMs: 7,
    staleLimitMs: 5_000,
  });
  t.same(policies.rulesOf('team/app', 'latest'), { ...rules('mutable'), staleLimitMs: 9 });
  t.same(policies.rulesOf('other/app', 'v1'), rules('revalidate'), 'the default of the mode');
  t.ok(policies.mayKeep('team/app'));
  t.notOk(policies.mayKeep('few/x'));
});

t.test('each mode has a default; an upstream may say its own', async (t) => {
  t.equal(defaultPolicy('none'), 'mutable');
  t.equal(defaultPolicy('pull-through'), 'revalidate');
  t.equal(defaultPolicy('write-back'), 'revalidate');
  const tags = { policy: 'immutable', ttl: 100, 'stale-limit': 5_000, overrides: [] } as const;
  const policies = new TagPolicies({ mode: 'none', tags });
  t.same(policies.rulesOf('a/b', 'c'), rules('immutable', 'none'));
  t.ok(policies.mayKeep('a/b'));
});

t.test('how a tag is answered follows from its policy, its age and who holds the truth', async (t) => {
  const owed = { ...SEEN, owed: {} };
  for (const [facts, rule, nowMs, wanted] of [
    [undefined, rules('mutable', 'none'), 0, 'unknown'],
    [SEEN, rules('mutable', 'none'), 1e9, 'answer'],
    [owed, rules('mutable'), 1e9, 'answer'],
    [undefined, rules('immutable'), 0, 'ask-upstream'],
    [SEEN, rules('mutable'), 1_000, 'ask-upstream'],
    [SEEN, rules('immutable'), 1e9, 'answer'],
    [SEEN, rules('pinned'), 1e9, 'answer'],
    [SEEN, rules('revalidate'), 1_099, 'answer'],
    [SEEN, rules('revalidate'), 1_100, 'ask-upstream'],
    [SEEN, rules('revalidate'), 901, 'answer'],
    [SEEN, rules('revalidate'), 900, 'ask-upstream'],
  ] as const)
    t.equal(decideTag(facts, rule, nowMs), wanted, `${rule.mode} ${rule.policy} at ${nowMs}`);
  t.ok(mayAsk(SEEN, rules('revalidate')));
  t.ok(mayAsk(undefined, rules('mutable')));
  t.notOk(mayAsk(owed, rules('revalidate')));
  for (const rule of [rules('mutable', 'none'), rules('immutable'), rules('pinned')])
    t.notOk(mayAsk(SEEN, rule), `${rule.mode} ${rule.policy}`);
});

t.test('while an upstream is silent a tag is served up to its limit, with its age', async (t) => {
  const rule = rules('revalidate');
  t.equal(staleAge(undefined, rule, 0), undefined);
  t.equal(staleAge(SEEN, rule, 500), 0, 'a clock that was set back makes no age');
  t.equal(staleAge(SEEN, rule, 3_600), 3);
  t.equal(staleAge(SEEN, rule, 6_000), 5);
  t.equal(staleAge(SEEN, rule, 6_001), undefined);
});

t.test('an immutable tag never moves, a pinned one by an explicit act alone', async (t) => {
  for (const mover of ['push', 'set', 'revalidate'] as const) {
    t.ok(mayMove(undefined, 'b', rules('immutable'), mover));
    t.ok(mayMove('b', 'b', rules('immutable'), mover));
    t.notOk(mayMove('a', 'b', rules('immutable'), mover));
    t.ok(mayMove('a', 'b', rules('mutable'), mover));
    t.equal(mayMove('a', 'b', rules('pinned'), mover), mover !== 'revalidate');
  }
});

t.test('what follows its upstream is not set by hand', async (t) => {
  t.match(setFault(rules('revalidate')), /make the tag pinned first/);
  t.match(setFault(rules('mutable')), /policy mutable/);
  for (const rule of [
    rules('pinned'),
    rules('immutable'),
    rules('mutable', 'none'),
    rules('revalidate', 'write-back'),
  ])
    t.equal(setFault(rule), undefined, `${rule.mode} ${rule.policy}`);
});
