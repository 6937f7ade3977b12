import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { outOfFiles } from '@sepia/base/system/open-files';
import { Cluster } from '@sepia/cluster/cluster';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { InternalClient } from '@sepia/http/client';
import t from 'tap';
import { findSource } from '../../src/bodies/whereabouts.ts';
import { Origins } from '../../src/cluster/origins.ts';

t.test('who has no socket to ask with says that, not that no origin answers', async (t) => {
  const members = [1, 2, 3].map((at) => ({
    id: `origin-${at}`,
    role: 'origin',
    urls: [`http://o${at}.example`],
  }));
  const document = { version: 1, members, upstreams: [{ name: 'local', mode: 'none' }] };
  const cluster = new Cluster(parseClusterDocument(JSON.stringify(document), 'cluster.yaml'));
  const system = Object.assign(new Error('connect EMFILE'), { code: 'EMFILE' });
  const name = {
    upstream: 'local',
    repository: parseRepositoryName('app'),
    digest: digestOf(Buffer.from('x')),
  };
  for (const [error, code] of [
    [outOfFiles(system), 'MEMBER_BUSY'],
    [new CodedError('PEER_HTTP'), 'NO_PEERS'],
  ] as const) {
    const bytes = async (): Promise<never> => {
      throw error;
    };
    const client = { bytes } as unknown as InternalClient;
    const health = new Health(() => performance.now(), UNTIL_IT_ANSWERS);
    const origins = new Origins({ cluster, client, health });
    await t.rejects(findSource(origins, name, new AbortController().signal), { code });
  }
});
