import { silentLogger } from '@sepia/base/log';
import { rawHttp } from '@sepia/test-support/clients/raw-http';
import t from 'tap';
import { createApp, FILLED } from '../src/app.ts';
import { createGate } from '../src/gate.ts';
import { HttpListener } from '../src/listener.ts';

t.test('an answer of any kind is longer than a packet where that is asked for', async (t) => {
  const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/open': 'anyone' } }) });
  app.use((ctx) => {
    ctx.body = 'here';
  });
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  const asked = Object.entries(FILLED).map(([name, value]) => `${name}: ${value}\r\n`);
  for (const path of ['/open', '/closed']) {
    const head = `HEAD ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n`;
    const filled = await rawHttp(listener.url, `${head}${asked.join('')}\r\n`);
    t.ok(filled.text.length > 1_500, `${path}: ${filled.text.length}`);
    const small = await rawHttp(listener.url, `${head}\r\n`);
    t.ok(small.text.length < 1_000, `${path}: ${small.text.length}`);
  }
});
