import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { LinkProofs } from '../../../src/blobs/core/link-proofs.ts';
import { relink } from '../../../src/http/core/relink.ts';

const NAME = { upstream: 'local', repository: 'app', digest: digestOf(Buffer.from('a')) };

t.test('a link is believed for a while after the cluster vouched for it', async (t) => {
  const proofs = new LinkProofs((upstream) => upstream === 'local');
  t.notOk(proofs.isBelieved(NAME, 0));
  proofs.note(NAME, 1_000, proofs.revision);
  t.ok(proofs.isBelieved(NAME, 30_999));
  t.notOk(proofs.isBelieved(NAME, 31_000));
  t.notOk(proofs.isBelieved({ ...NAME, repository: 'other' }, 1_000));
  t.ok(proofs.isBelieved({ ...NAME, upstream: 'hub' }, 0), 'links of other registries stay');
});

t.test('a revoked link is not believed, nor what was asked before', async (t) => {
  const proofs = new LinkProofs(() => true);
  const before = proofs.revision;
  proofs.note(NAME, 0, before);
  proofs.revoke([NAME]);
  t.notOk(proofs.isBelieved(NAME, 0));
  proofs.note(NAME, 0, before);
  t.notOk(proofs.isBelieved(NAME, 0), 'an answer that was under way');
  proofs.note(NAME, 0, proofs.revision);
  t.ok(proofs.isBelieved(NAME, 0), 'pushed again');
});

t.test('a link to the next page leads back to this node', async (t) => {
  const link = '</v2/library/app/tags/list?n=2&last=b%2B>; rel="next"';
  t.equal(
    relink(link, '/v2/app/tags/list', 'docker.io'),
    '</v2/app/tags/list?n=2&last=b%2B&ns=docker.io>; rel="next"',
  );
  t.equal(relink(link, '/v2/app/tags/list', undefined), '</v2/app/tags/list?n=2&last=b%2B>; rel="next"');
  for (const none of [undefined, '', '</v2/x>; rel="next"', '</v2/x?n=1>; rel="prev"', 'nonsense'])
    t.equal(relink(none, '/v2/app/tags/list', undefined), undefined, `${none}`);
});
