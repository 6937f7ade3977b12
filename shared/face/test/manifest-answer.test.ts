import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { createApp } from '@sepia/http/app';
import { createGate } from '@sepia/http/gate';
import { HttpListener } from '@sepia/http/listener';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { sendManifest } from '../src/manifest-answer.ts';

const BYTES = Buffer.from('<script>alert(1)</script>');

async function start(t: Test, mediaType: string): Promise<string> {
  const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/*': 'anyone' } }) });
  app.use((ctx) =>
    sendManifest(ctx, { digest: digestOf(BYTES), mediaType, sizeBytes: BYTES.length, bytes: BYTES }),
  );
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  return listener.url;
}

const CLIENTS = { none: {}, all: { accept: '*/*' }, typed: { accept: `${OCI_MANIFEST}, */*` } };
const BROWSERS = {
  page: { accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' },
  frame: { 'sec-fetch-dest': 'iframe', accept: '*/*' },
  script: { 'sec-fetch-mode': 'no-cors', accept: '*/*' },
};

t.test('registries get the type as it was pushed, browsers get what is no manifest as bytes', async (t) => {
  for (const type of ['text/html', 'image/svg+xml', 'application/vnd.example.thing.v1+json']) {
    const url = await start(t, type);
    for (const method of ['GET', 'HEAD'] as const) {
      for (const [name, headers] of Object.entries(CLIENTS)) {
        const answer = await request(url, { method, headers });
        await answer.body.dump();
        t.equal(answer.headers['content-type'], type, `${method} ${name}`);
      }
      for (const [name, headers] of Object.entries(BROWSERS)) {
        const answer = await request(url, { method, headers });
        await answer.body.dump();
        t.equal(answer.headers['content-type'], 'application/octet-stream', `${method} ${name}`);
        t.match(answer.headers, {
          'x-content-type-options': 'nosniff',
          'content-security-policy': /^default-src 'none'.*sandbox/,
          vary: /Accept/,
        });
      }
    }
  }
});

t.test('a manifest has its type for browsers too', async (t) => {
  const url = await start(t, OCI_MANIFEST);
  for (const headers of Object.values(BROWSERS)) {
    const answer = await request(url, { headers });
    await answer.body.dump();
    t.equal(answer.headers['content-type'], OCI_MANIFEST);
  }
});

t.test('a client that has it gets 304, in each form of If-None-Match', async (t) => {
  const url = await start(t, OCI_MANIFEST);
  const etag = `"${digestOf(BYTES)}"`;
  const forms = { [etag]: 304, [`W/${etag}`]: 304, [`"other", ${etag}`]: 304, '*': 304, '"other"': 200 };
  for (const [known, status] of Object.entries(forms)) {
    const answer = await request(url, { headers: { 'if-none-match': known } });
    await answer.body.dump();
    t.equal(answer.statusCode, status, known);
  }
});
