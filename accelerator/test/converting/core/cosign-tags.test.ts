import { parseDigest } from '@sepia/base/digest';
import t from 'tap';
import { cosignTags } from '../../../src/converting/core/cosign-tags.ts';

t.test('cosign attaches to a manifest under tags of its digest', async (t) => {
  const [sha256, sha512] = ['ab'.repeat(32), 'cd'.repeat(64)];
  t.same(cosignTags(parseDigest(`sha256:${sha256}`)), [
    { tag: `sha256-${sha256}.sig`, what: 'cosign signature' },
    { tag: `sha256-${sha256}.att`, what: 'cosign attestation' },
    { tag: `sha256-${sha256}.sbom`, what: 'cosign SBOM' },
  ]);
  t.equal(cosignTags(parseDigest(`sha512:${sha512}`))[0]?.tag, `sha512-${sha512}.sig`);
});
