import t from 'tap';
import { ask, pushBlob, randomContent } from '../support/client.ts';
import { startCluster } from '../support/fake-cluster.ts';

t.test(
  'the address of a listener stands for the upstream that is its default, at each of them',
  async (t) => {
    const listeners = [
      { listen: '127.0.0.1:0', 'public-url': 'http://front.example' },
      { listen: '127.0.0.1:0', 'default-upstream': 'hub', 'public-url': 'http://mirror.example' },
    ];
    const { proxies } = await startCluster(t, { config: { listeners } });
    const [front, mirror] = proxies[0]!.urls as [string, string];
    const content = randomContent(10);
    t.equal((await pushBlob(front, 'app', content)).status, 201);
    const path = `/v2/app/blobs/${content.digest}`;
    for (const url of [front, mirror]) {
      t.equal((await ask(`${url}${path}?ns=front.example`)).status, 200);
      t.not((await ask(`${url}${path}?ns=mirror.example`)).code, 'UPSTREAM_UNKNOWN');
      t.not((await ask(`${url}${path}?ns=mirror.example`)).status, 200);
      t.equal((await ask(`${url}${path}?ns=evil.example`)).status, 404);
    }
    t.not((await ask(mirror + path)).status, 200);
  },
);
