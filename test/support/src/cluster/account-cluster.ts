import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type PushedImage, randomImage, sha256 } from '../clients/registry-client.ts';
import { ask, type Reply, type TestUser } from '../clients/token-client.ts';
import { LogLines } from '../log-lines.ts';
import { Constellation, type ConstellationOptions } from './constellation.ts';

export const DEV: TestUser = { username: 'dev', password: 'dev:S3cret/pass' };
export const READER: TestUser = { username: 'reader', password: 'r3ader-S3cret' };
/** `htpasswd -nbB -C 5` of the two. */
const HTPASSWD = `# accounts of the tests
dev:$2y$05$weIRAaDiPXVTe6ecMn6MCOnanhlUukoXhYmdIk6kVj4Z99JAACXTG
reader:$2y$05$BUvDpC/zy1M0vknngsS.wOsYNegO.ilAt/dYcImwpX9Yr1pGtZ2a6
`;

export const ACCOUNTS = {
  groups: { team: ['dev'] },
  rules: [
    { who: ['group:team'], repositories: ['team/**'], actions: ['read', 'write', 'delete'] },
    { who: ['reader'], repositories: ['team/shared/*'], actions: ['read'] },
    { who: ['*', 'anonymous'], repositories: ['open/**'], actions: ['read'] },
    { who: ['dev'], repositories: ['open/**'], actions: ['read', 'write'] },
  ],
};

/** Everybody reads all but `secret/…`. */
export const ONE_SECRET = {
  'anonymous-pull': true,
  rules: [
    { who: ['dev'], repositories: ['**'], actions: ['read', 'write'] },
    { who: ['*', 'anonymous'], repositories: ['secret/**'], actions: [] },
  ],
};

/** Seven origins, three proxies, two agents; clients log in. */
export class AccountCluster {
  readonly cluster: Constellation;
  readonly log: LogLines;
  readonly auditFile: string;

  private constructor(cluster: Constellation, log: LogLines, auditFile: string) {
    this.cluster = cluster;
    this.log = log;
    this.auditFile = auditFile;
  }

  static async start(
    dir: string,
    options: ConstellationOptions & { readonly accounts?: Readonly<Record<string, unknown>> } = {},
  ): Promise<AccountCluster> {
    await mkdir(dir, { recursive: true });
    const file = join(dir, 'htpasswd');
    await writeFile(file, HTPASSWD);
    const log = new LogLines('debug');
    const auditFile = join(dir, 'audit.log');
    const cluster = await Constellation.start(join(dir, 'cluster'), {
      origins: 7,
      proxies: 3,
      agents: 2,
      log: log.logger,
      document: { accounts: { ...ACCOUNTS, ...options.accounts } },
      proxy: { 'accounts-file': file, 'audit-log': auditFile },
      ...options,
    });
    return new AccountCluster(cluster, log, auditFile);
  }

  proxyUrl(at = 0): string {
    return this.cluster.proxyUrls[at % this.cluster.proxyUrls.length]!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster.stop();
  }
}

/** Pushes as containerd does (POST, one PUT, manifest), each request to another proxy; the status of the first that fails. */
export async function pushAs(
  here: AccountCluster,
  repository: string,
  tag: string,
  authorization: string,
  image: PushedImage = randomImage([300_000]),
): Promise<{ status: number; image: PushedImage; reply: Reply }> {
  let turn = 0;
  const headers = { authorization };
  const next = (): string => here.proxyUrl(turn++);
  let reply: Reply | undefined;
  for (const { digest, bytes } of [image.config, ...image.layers]) {
    reply = await ask(`${next()}/v2/${repository}/blobs/uploads/`, headers, 'POST');
    if (reply.status !== 202) return { status: reply.status, image, reply };
    const target = new URL(String(reply.headers['location']), next());
    target.searchParams.set('digest', digest);
    reply = await ask(String(target), headers, 'PUT', bytes);
    if (reply.status !== 201) return { status: reply.status, image, reply };
  }
  const type = { 'content-type': 'application/vnd.oci.image.manifest.v1+json' };
  reply = await ask(
    `${next()}/v2/${repository}/manifests/${tag}`,
    { ...headers, ...type },
    'PUT',
    image.manifest,
  );
  if (sha256(image.manifest) !== image.manifestDigest) throw new Error('the image is not sound');
  return { status: reply.status, image, reply };
}
