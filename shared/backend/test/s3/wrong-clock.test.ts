import { createServer, type IncomingMessage } from 'node:http';
import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { soon } from '../contract.ts';
import { s3At } from '../s3-at.ts';

const BYTES = Buffer.from('anything');
const QUERY = { repository: 'team/app' as never, digest: digestOf(BYTES) };
/** What stores take at most, in ms. */
const TOLERANCE_MS = 15 * 60_000;

/** When a request was signed, by its own words. */
function signedMs({ headers }: IncomingMessage): number {
  const date = String(headers['x-amz-date']);
  return Date.parse(date.replace(/^(\d{4})(\d\d)(\d\dT\d\d)(\d\d)(\d\dZ)$/, '$1-$2-$3:$4:$5'));
}

t.test('a store whose clock is far from ours is read and written in its time', async (t) => {
  for (const aheadMs of [-3_600_000, 3_600_000]) {
    const statuses: number[] = [];
    const server = createServer((req, res) => {
      const nowMs = Date.now() + aheadMs;
      res.setHeader('date', new Date(nowMs).toUTCString());
      const isRight = Math.abs(signedMs(req) - nowMs) < TOLERANCE_MS;
      res.statusCode = isRight ? 200 : 403;
      statuses.push(res.statusCode);
      if (isRight) return void res.end(req.method === 'GET' ? BYTES : '');
      res.setHeader('content-type', 'application/xml');
      res.end('<?xml version="1.0"?><Error><Code>RequestTimeTooSkewed</Code><Message>m</Message></Error>');
    });
    const backend = await s3At(t, server);
    for (let round = 0; round < 2; round++) {
      const { body } = await backend.getBlob(QUERY, soon());
      const chunks: Buffer[] = [];
      for await (const chunk of body as AsyncIterable<Buffer>) chunks.push(chunk);
      t.same(Buffer.concat(chunks), BYTES);
    }
    t.same(statuses, [403, 200, 200], 'refused once, by the date of its first call');
  }
});

t.test('a store that refuses every date is not asked for ever', async (t) => {
  let asked = 0;
  const server = createServer((_, res) => {
    asked += 1;
    res.setHeader('date', new Date(Date.now() + asked * 3_600_000).toUTCString());
    res.writeHead(403, { 'content-type': 'application/xml' });
    res.end('<?xml version="1.0"?><Error><Code>RequestTimeTooSkewed</Code><Message>m</Message></Error>');
  });
  const backend = await s3At(t, server);
  await t.rejects(backend.getBlob(QUERY, soon()), {
    code: 'UPSTREAM_DENIED',
    message: /the clock of this machine is wrong/,
  });
  t.equal(asked, 2);
});
