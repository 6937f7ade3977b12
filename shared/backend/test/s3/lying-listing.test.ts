import { createServer } from 'node:http';
import t from 'tap';
import { soon } from '../contract.ts';
import { s3At } from '../s3-at.ts';

const HEX = 'ab'.repeat(32);
const LISTING = `<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated>
<NextContinuationToken>same</NextContinuationToken>
<Contents><Key>blobs/sha256/ab/${HEX}</Key><Size>7</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>
</ListBucketResult>`;
const UPLOADS = `<?xml version="1.0"?><ListMultipartUploadsResult><IsTruncated>true</IsTruncated>
<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker></ListMultipartUploadsResult>`;

t.test('a store that names the same page for ever is not believed', async (t) => {
  let asked = 0;
  const server = createServer((req, res) => {
    asked += 1;
    res.writeHead(200, { 'content-type': 'application/xml' });
    res.end(req.url!.includes('uploads') ? UPLOADS : LISTING);
  });
  const backend = await s3At(t, server);
  const lies = { code: 'UPSTREAM_LIES', message: /s3:\/\/images .* same page again/ } as const;
  await t.rejects(async () => {
    for await (const { digest } of backend.listBlobs(undefined, soon()))
      t.equal(digest, `sha256:${HEX}`, 'what it lists is told');
  }, lies);
  await t.rejects(backend.tidy(0, soon()), lies);
  t.ok(asked <= 6, `${asked} questions`);
});
