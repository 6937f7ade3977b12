import { createServer } from 'node:http';
import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { soon } from '../contract.ts';
import { s3At } from '../s3-at.ts';

const BLOB = { repository: 'team/app' as never, digest: digestOf(Buffer.from('anything')) };

t.test(
  'a store is left alone as long as it asks, in seconds or until a date, and never longer than 10 min',
  async (t) => {
    let after: string | undefined;
    const server = createServer((_, res) => {
      res.writeHead(503, {
        'content-type': 'application/xml',
        ...(after === undefined ? {} : { 'retry-after': after }),
      });
      res.end('<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>slow down</Message></Error>');
    });
    const backend = await s3At(t, server);
    const asked = async (said: string | undefined): Promise<unknown> => {
      after = said;
      const failure = await backend.getBlob(BLOB, soon()).catch((error: unknown) => error);
      t.match(failure, { code: 'UPSTREAM_LIMITED' });
      return (failure as { detail: Record<string, unknown> }).detail['retryAfterSeconds'];
    };
    t.equal(await asked(undefined), 1);
    t.equal(await asked('0'), 1);
    t.equal(await asked('17'), 17);
    t.equal(await asked('soon'), 1);
    t.equal(await asked('999999999'), 600);
    t.equal(await asked(new Date(Date.now() + 86_400_000).toUTCString()), 600);
  },
);
