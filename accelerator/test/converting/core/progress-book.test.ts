import { type Digest, digestOf } from '@sepia/base/digest';
import { documentOf, OCI_CONFIG } from '@sepia/lazy/convert/documents';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { ProgressBook } from '../../../src/converting/core/progress-book.ts';

t.test('progress is bounded, what runs is shown first', async (t) => {
  const book = new ProgressBook();
  for (let index = 0; index < 300; index += 1) book.note(`d${index}`, index === 250 ? 'convert' : 'done', 1);
  book.note('d250', 'convert', 0.123456);
  book.note('nan', 'pull', Number.NaN);
  const view = book.view();
  t.equal(view.length, 100);
  t.same(view.slice(0, 2), [
    { digest: 'd250', phase: 'convert', share: 0.12 },
    { digest: 'nan', phase: 'pull', share: 0 },
  ]);
});

t.test('a layer says of which platforms it is', async (t) => {
  const book = new ProgressBook();
  const part = (text: string, mediaType: string): { mediaType: string; digest: Digest; size: number } => ({
    ...{ mediaType, digest: digestOf(Buffer.from(text)), size: 1 },
  });
  const image = (...names: string[]) =>
    documentOf(
      { config: part('config', OCI_CONFIG), layers: names.map((name) => part(name, 'tar')) },
      OCI_MANIFEST,
    );
  const [amd, arm, alone] = [image('shared', 'amd'), image('shared', 'arm'), image('alone')];
  const child = ({ digest }: typeof amd, architecture: string) => ({
    ...{ mediaType: OCI_MANIFEST, digest, size: 1 },
    platform: { os: 'linux', architecture },
  });
  const manifests = [
    child(amd, 'amd64'),
    child(arm, `arm64${'x'.repeat(100)}`),
    { ...child(alone, ''), platform: {} },
  ];
  book.heard(documentOf({ manifests }, OCI_INDEX));
  for (const one of [amd, amd, arm, alone]) book.heard(one);
  for (const name of ['shared', 'amd', 'arm', 'alone']) book.note(digestOf(Buffer.from(name)), 'pull', 0.5);
  t.same(
    book.view().map(({ platforms }) => platforms),
    [
      ['linux/amd64', `linux/arm64${'x'.repeat(21)}`],
      ['linux/amd64'],
      [`linux/arm64${'x'.repeat(21)}`],
      undefined,
    ],
  );
  t.throws(() => book.heard({ ...amd, bytes: Buffer.from('[]') }), { code: 'MANIFEST_SYNTAX' });
});
