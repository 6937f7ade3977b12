import t from 'tap';
import { FILES, isSource } from './sources.ts';

/** Of what a person wrote: a slip is told. */
const CONFIGS = [
  'accelerator/src/config.ts',
  'agent/src/config.ts',
  'origin/src/config.ts',
  'proxy/src/config.ts',
  'proxy/src/harbor/config.ts',
  'shared/base/src/config/member-keys.ts',
  'shared/cluster/src/accounts-document.ts',
  'shared/cluster/src/backend-keys.ts',
  'shared/cluster/src/conversion-rule.ts',
  'shared/cluster/src/document.ts',
  'shared/cluster/src/replication-rule.ts',
  'shared/cluster/src/stranger-policy.ts',
  'shared/cluster/src/tag-policies.ts',
  'shared/cluster/src/write-back.ts',
  'snapshotter/src/config.ts',
  'tracker/src/config.ts',
];

/** Of what an operator tells the cluster to do: it could do more than was meant. */
const ORDERS = [
  'origin/src/http/gc-routes.ts',
  'origin/src/write-back/routes.ts',
  'shared/cluster/src/ring-messages.ts',
];

t.test('messages and files take what a later version says: only configs and orders are strict', async (t) => {
  const strict = FILES.filter(
    ({ path, code }) => isSource(path) && /\bstrictObject\b|\.strict\(\)/.test(code),
  );
  t.same(strict.map(({ path }) => path).sort(), [...CONFIGS, ...ORDERS].sort(), 'docs/adr/0012 says why');
});
