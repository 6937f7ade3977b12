import t from 'tap';
import type { Proxies } from '../../src/net/proxies.ts';
import { QueueClient } from '../../src/net/queue-client.ts';

t.test('of each line that an image brought about a job keeps the begin', async (t) => {
  const sent: unknown[] = [];
  const json = async ({ json: body }: { readonly json?: unknown }) => void sent.push(body);
  const queue = new QueueClient({ json } as unknown as Proxies);
  const long = 'a'.repeat(5_000);
  const cut = `${'a'.repeat(300)}…`;
  await queue.finish('1-x', 'me', {
    outcome: 'indexed',
    digest: 'd',
    reason: long,
    lost: [long, 'short'],
    notLazy: [long],
  });
  await queue.finish('1-x', 'me', { outcome: 'unchanged' });
  t.same(sent, [
    {
      holder: 'me',
      result: { outcome: 'indexed', digest: 'd', reason: cut, lost: [cut, 'short'], notLazy: [cut] },
    },
    { holder: 'me', result: { outcome: 'unchanged' } },
  ]);
});
