import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { Webhooks } from '../../src/harbor/webhooks.ts';

const EVENT = {
  key: 'at 1',
  kind: 'push',
  host: 'harbor.test',
  repository: 'team/app',
  digest: digestOf(Buffer.from('image')),
  tag: undefined,
} as const;

t.test('a push at which nodes failed is a new command to them when it is tried again', async (t) => {
  const values = new Map<string, unknown>();
  const said: string[] = [];
  const upstream = { name: 'hub', mode: 'pull-through', hosts: ['harbor.test'] };
  let nowMs = 0;
  // Time is for the second try alone: no hold runs out before.
  const dateMs = (): number => {
    nowMs += said.length === 0 ? 0 : 1_000;
    return nowMs;
  };
  const webhooks = new Webhooks(
    {
      cluster: { upstreams: [upstream], upstream: () => upstream },
      records: {
        read: async (key: string) => values.get(key),
        change: async (key: string, change: (current: unknown) => unknown) => {
          values.set(key, change(values.get(key)));
        },
      },
      // As nodes do: what they were told under an id they say again, whatever it was.
      preheat: ({ commandId }: { commandId: string }) => ({
        run: async () => {
          const isFirst = said.length === 0;
          const isKnown = said.includes(commandId);
          said.push(commandId);
          if (isFirst || isKnown) throw new CodedError('NO_PEERS', { message: '1 of 1 nodes failed' });
        },
      }),
      config: { prefetch: [{ repositories: ['team/**'], scope: 'all_peers' }] },
      ...{ memberId: 'proxy-1', log: silentLogger(), dateMs },
    } as unknown as ConstructorParameters<typeof Webhooks>[0],
    { lookEveryMs: 1 },
  );
  webhooks.start();
  await webhooks.take([EVENT]);
  await until(async () => isEmpty(values), 'it was carried out');
  await webhooks.stop();
  t.equal(said.length, 2, 'the second try did it');
  t.match(said[0], /^push-[0-9a-f]{32}$/);
  t.equal(said[1], `${said[0]}-1`);
});

/** True when no lane holds an event any more. */
function isEmpty(values: ReadonlyMap<string, unknown>): boolean {
  return [...values.values()].every((lane) => (lane as { events: unknown[] }).events.length === 0);
}
