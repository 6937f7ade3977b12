import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { LinkProofs } from '../../src/proofs/link-proofs.ts';

const NAME = {
  ...{ upstream: 'hub', repository: parseRepositoryName('team/app') },
  digest: digestOf(Buffer.from('pushed')),
};

t.test('a link that a push made is believed for a minute after it was seen', async (t) => {
  let nowMs = 0;
  const proofs = new LinkProofs({
    ...{ store: {} as never, members: {} as never, log: silentLogger(), nowMs: () => nowMs },
    upstreams: { client: () => ({}) } as never,
  });
  const isProven = (): boolean => proofs.isProven(NAME, []);
  proofs.noteLink(NAME, {});
  t.equal(isProven(), false, 'made by a manifest that was seen');
  proofs.noteLink(NAME, { pushed: true });
  nowMs = 59_999;
  t.equal(isProven(), true);
  nowMs = 60_000;
  t.equal(isProven(), false);
  proofs.noteLink(NAME, { pushed: true });
  t.equal(isProven(), true);
  proofs.forget(NAME);
  t.equal(isProven(), false);
});
