import t from 'tap';
import { CONVERSION_RULE } from '../src/conversion-rule.ts';
import { ConversionRules } from '../src/conversion-rules.ts';

const rulesOf = (...rules: object[]): ConversionRules =>
  new ConversionRules(rules.map((rule) => CONVERSION_RULE.parse({ from: 'local', ...rule })));

const push = { kind: 'push', upstream: 'local', repository: 'team/app', tag: '1' } as const;

t.test('each rule that names the tag makes one task', async (t) => {
  const rules = rulesOf(
    { name: 'team', repositories: ['team/**'] },
    { name: 'v', repositories: ['**'], tags: ['v*'], 'tag-suffix': '.lazy', 'delete-with-source': true },
    { name: 'elsewhere', from: 'other', repositories: ['**'] },
  );
  const made = (event: Parameters<ConversionRules['tasksOf']>[0]): string[] =>
    rules.tasksOf(event).map((task) => `${task.kind} ${task.rule}`);
  t.same(made(push), ['convert team']);
  t.same(made({ ...push, tag: 'v2' }), ['convert team', 'convert v']);
  t.same(made({ ...push, repository: 'x', tag: '1' }), []);
  t.same(made({ ...push, tag: 'v2', kind: 'delete' }), ['remove v'], 'only where the rule says so');
  for (const tag of ['1-estargz', 'v2.lazy', 'v2.lazy-estargz'])
    t.same(made({ ...push, tag }), [], `${tag} is a result`);
});

t.test('what is brought along is indexed only, a digest by every rule', async (t) => {
  const rules = rulesOf(
    { name: 'team', repositories: ['team/**'] },
    { name: 'starts', repositories: ['team/**'], tags: ['v*'], to: 'index' },
  );
  const made = (tag: string): string[] =>
    rules.tasksOf({ ...push, kind: 'preheat', tag }).map((task) => `${task.kind} ${task.rule}`);
  t.same(made('v1'), ['index starts']);
  t.same(made('1'), []);
  t.same(made(`sha256:${'1'.repeat(64)}`), ['index starts']);
});

t.test('only results that have tags are known by their tags', async (t) => {
  const rules = rulesOf(
    { name: 'beside', repositories: ['**'], result: 'referrer', 'tag-suffix': '-a' },
    { name: 'index', repositories: ['**'], to: 'index', 'tag-suffix': '-b' },
    { name: 'both', repositories: ['**'], result: 'image-index', 'tag-suffix': '-c' },
  );
  t.notOk(rules.isResultTag('local', '1-a'));
  t.notOk(rules.isResultTag('local', '1-b'));
  t.ok(rules.isResultTag('local', '1-c'));
  t.notOk(rules.isResultTag('other', '1-c'), 'of another upstream');
  t.same(
    rules.tasksOf({ ...push, tag: '1-c' }).map((task) => task.kind),
    ['index'],
  );
});
