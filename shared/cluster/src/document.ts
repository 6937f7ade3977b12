import { MEMBER_ID } from '@sepia/base/config/member-keys';
import {
  baseUrl,
  bytes,
  duration,
  hostList,
  hostPort,
  pathText,
  registryUrl,
  zoneName,
} from '@sepia/base/config/units';
import { inOneSpelling, isEverywhere } from '@sepia/base/host-port';
import { patterns } from '@sepia/base/names/pattern';
import { upstreamOfHost } from '@sepia/base/names/upstream-name';
import { z } from 'zod';
import { ACCOUNTS_SCHEMA, checkAccess } from './accounts-document.ts';
import { BACKEND, checkBackend, MAX_CONNECTIONS } from './backend-keys.ts';
import { CONVERSION_RULE, checkConversions } from './conversion-rule.ts';
import { REACH_KEYS } from './reach-keys.ts';
import { checkReplication, REPLICATION_RULE } from './replication-rule.ts';
import { POLICIES } from './stranger-policy.ts';
import { checkTagPolicies, TAG_POLICIES } from './tag-policies.ts';
import { checkWriteBack, UPSTREAM_MODES, WRITE_BACK } from './write-back.ts';

const QUOTA = z
  .strictObject({
    repositories: patterns().describe('Doublestar globs of repositories, e.g. team/**.'),
    size: bytes({ least: '0B' }).optional().describe('Bytes that each of them may have, e.g. 50GiB.'),
    records: z.number().int().min(1).optional().describe('Blobs and manifests that each of them may have.'),
    tags: z.number().int().min(1).optional().describe('Tags that each of them may have.'),
  })
  .refine(({ size, records, tags }) => (size ?? records ?? tags) !== undefined, {
    message: 'names no limit: size, records or tags',
  });

/** Most that each repository of a pattern may have; a push beyond it is refused with `QUOTA_EXCEEDED`. */
export type RepositoryQuota = z.infer<typeof QUOTA>;

/** One registry that the cluster fronts. */
const UPSTREAM_SCHEMA = z
  .strictObject({
    name: z
      .string()
      .regex(MEMBER_ID, 'is not a name: lower-case letters, digits, dots, dashes')
      .describe('Name of the upstream.'),
    url: registryUrl()
      .optional()
      .describe('Its registry, with the path before /v2/ if it has one; left out for mode none.'),
    hosts: hostList().describe(
      'Further `ns` values it answers to, beside its name and the host of its url: hosts, with port or not; localhost, 127.0.0.1 and [::1] are one.',
    ),
    mode: z
      .enum(UPSTREAM_MODES)
      .describe(
        'none: Sepia is the source of truth. pull-through: read from url. write-back: read from url; pushes are taken here and brought to url behind.',
      ),
    'write-back': WRITE_BACK.optional().describe('How pushes are brought to url (mode write-back).'),
    insecure: z.boolean().default(false).describe('Do not check its certificate.'),
    ca: pathText()
      .optional()
      .describe(
        'PEM file of certificates trusted for it, relative to this document; read again when it changes.',
      ),
    backend: BACKEND.optional().describe(
      'Where its blobs rest beside the origins. Mode none: pushed blobs are written there, and origins may evict them then. pull-through: blobs are read there first, then from url.',
    ),
    ...REACH_KEYS,
    tags: TAG_POLICIES.prefault({}).describe('Freshness of its tags.'),
    quotas: z
      .array(QUOTA)
      .max(1_000)
      .default([])
      .describe('How much may be pushed to a repository; the first that matches counts, none: no limit.'),
    'manifest-recheck': z
      .enum(['never', 'ttl', 'always'])
      .default('never')
      .describe(
        'When it is asked (HEAD) before a cached manifest is served by digest: never, when it was last asked `tags.ttl` ago, or always. For policy gates and permissions upstream.',
      ),
    'refresh-pull-times': duration({ least: '1s', most: '366d' })
      .optional()
      .describe(
        'Its pull time of images that are served here is kept fresh by one manifest GET in this time, e.g. 6h; left out: never.',
      ),
    'cached-replicas': z
      .number()
      .int()
      .min(1)
      .max(3)
      .default(1)
      .describe(
        'Origins that keep a copy of what was fetched from it, while their caches have room: 1 saves disks, the nodes that pulled it have it too; more survive a lost origin while it is away.',
      ),
    'max-connections': MAX_CONNECTIONS,
    'requests-per-second': z
      .number()
      .min(0.001)
      .max(100_000)
      .optional()
      .describe(
        'Requests that one origin, or a node that has nobody else to ask, sends it in a second, e.g. 0.5; more wait in turn, as many as are sent within 5 s; others fail as when it limits them itself. Left out: no limit.',
      ),
    access: z
      .enum(['upstream', 'accounts', 'cluster'])
      .optional()
      .describe(
        'Who may read it (and push, where it takes pushes). upstream: whom the upstream itself accepts, the default of pull-through. accounts: whom the rules of accounts allow, the default of the other modes where there are accounts. cluster: whoever reaches an agent or proxy, with the credentials of the origins.',
      ),
    'fetch-with': z
      .enum(['any', 'robot', 'client'])
      .default('any')
      .describe(
        'Whose credentials fetch private content after a client was accepted. robot: those of the origins. client: those of a client that was accepted for the repository. any: the robot, else a client.',
      ),
  })
  .refine((one) => (one.mode === 'none') === (one.url === undefined), {
    message: 'mode none has no url, every other mode needs one',
    path: ['url'],
  })
  .refine((one) => one.mode !== 'none' || one.access !== 'upstream', {
    message: 'mode none has no upstream to ask; use accounts or cluster',
    path: ['access'],
  })
  .superRefine((upstream, ctx) => checkTagPolicies(upstream, ctx))
  .superRefine((upstream, ctx) => checkBackend(upstream, ctx))
  .superRefine((upstream, ctx) => checkWriteBack(upstream, ctx));

/** One member; kept by the origins in the membership too. */
export const MEMBER_SCHEMA = z.strictObject({
  id: z
    .string()
    .regex(MEMBER_ID, 'is not an id: lower-case letters, digits, dots, dashes, at most 64')
    .describe('Id of the member, for good: what an origin keeps goes by it.'),
  role: z
    .enum(['origin', 'tracker', 'proxy'])
    .describe('What it is; agents, accelerators and snapshotters are not named here.'),
  urls: z.array(baseUrl()).min(1).describe('Addresses of its HTTP listener, tried in order.'),
  peers: z.array(hostPort()).default([]).describe('Addresses of its swarm ports (origins).'),
  zone: zoneName().optional().describe('Zone of its swarm ports, as nodes are told: the one of its config.'),
  weight: z
    .number()
    .positive()
    .max(1000)
    .default(1)
    .describe(
      'How much an origin keeps, compared with the others: above 0, up to 1000. Of one that keeps content `sepia ring` alone changes it.',
    ),
  state: z
    .enum(['active', 'draining', 'joining'])
    .default('active')
    .describe('draining: an origin that owns nothing any more; joining counts as active. As weight.'),
});

/** The cluster document: strict, with defaults; `docs/config.md` is made from it. */
export const DOCUMENT_SCHEMA = z
  .strictObject({
    version: z
      .number()
      .int()
      .min(1)
      .describe(
        'Number of this document, higher with each change: garbage is collected only where all origins have the same.',
      ),
    members: z.array(MEMBER_SCHEMA).describe('Origins, trackers and proxies of the cluster.'),
    upstreams: z.array(UPSTREAM_SCHEMA).min(1).describe('The first is the default.'),
    policies: POLICIES.prefault({}).describe('What holds in the whole cluster.'),
    replication: z
      .array(REPLICATION_RULE)
      .max(100)
      .default([])
      .describe('What is copied to other registries as soon as it is pushed.'),
    conversions: z
      .array(CONVERSION_RULE)
      .max(100)
      .default([])
      .describe('What accelerators convert, so that containers start before their image is downloaded.'),
    accounts: ACCOUNTS_SCHEMA.optional().describe(
      'Rules for accounts; the passwords stand in the accounts-file of each proxy. Without it nobody has to log in.',
    ),
  })
  .superRefine((document, ctx) => {
    checkReplication(document, ctx);
    checkConversions(document, ctx);
    checkAccess(document, ctx);
    if (document.policies.encryption === 'on' || document.policies.encryption === 'require')
      for (const [index, { urls }] of document.members.entries())
        if (urls.some((url) => url.startsWith('https:')))
          ctx.addIssue({
            code: 'custom',
            path: ['members', index, 'urls'],
            message: `members are dialled by the cluster key (policies.encryption ${document.policies.encryption}): write http://, and lead past what ends TLS there`,
          });
    const seen = new Set<string>();
    for (const member of document.members) {
      if (seen.has(member.id))
        ctx.addIssue({ code: 'custom', path: ['members'], message: `id ${member.id} is there twice` });
      seen.add(member.id);
    }
    for (const { path, message } of addressFaults(document.members))
      ctx.addIssue({ code: 'custom', path: ['members', ...path], message });
    checkHosts(document, ctx);
  });

interface Named {
  readonly members: readonly Member[];
  readonly upstreams: readonly Upstream[];
}

/**
 * Every `ns` value that each upstream answers to: its name, the host of its url, its hosts; the first one's also those of the
 * proxies. Where two answer to the same, the first does.
 */
export function hostsOf({ members, upstreams }: Named): { name: string; hosts: string[] }[] {
  const proxies = members.filter(({ role }) => role === 'proxy').flatMap(({ urls }) => urls.flatMap(hostOf));
  return upstreams.map(({ name, url, hosts }, index) => ({
    name,
    hosts: [
      ...new Set([
        name,
        ...(url === undefined ? [] : hostOf(url)),
        ...hosts,
        ...(index === 0 ? proxies : []),
      ]),
    ],
  }));
}

function hostOf(url: string): string[] {
  return URL.canParse(url) ? [new URL(url).host] : [];
}

/**
 * Checks that each host leads to its upstream: not to another one that has it too, nor to an earlier one that answers to an
 * alias of it (Docker Hub has several names).
 */
function checkHosts(document: Named, ctx: z.RefinementCtx): void {
  const all = hostsOf(document);
  const taken = new Map<string, string>();
  for (const [index, { name, hosts }] of document.upstreams.entries())
    for (const host of new Set([name, ...hosts])) {
      const other = taken.get(inOneSpelling(host));
      taken.set(inOneSpelling(host), name);
      const first = upstreamOfHost(host, all)?.name;
      if (other !== undefined)
        ctx.addIssue({
          code: 'custom',
          path: ['upstreams'],
          message: `host ${host} belongs to ${other} and ${name}`,
        });
      else if (first !== name)
        ctx.addIssue({
          code: 'custom',
          path: ['upstreams', index, 'hosts'],
          message: `${host} leads to ${first}, which stands before ${name} and answers to it too`,
        });
    }
}

/** An address of a member by which it cannot be reached. */
export interface AddressFault {
  readonly id: string;
  readonly path: readonly [index: number, key: string, at: number];
  readonly message: string;
}

/**
 * An address leads to one member: a call that another one answers is refused there by its signature. One that stands for all
 * of a machine leads whoever dials it to himself.
 */
export function addressFaults(members: readonly Member[]): AddressFault[] {
  const taken = new Map<string, string>();
  const found: AddressFault[] = [];
  for (const [index, { id, urls, peers }] of members.entries())
    for (const [key, list] of Object.entries({ urls, peers }))
      for (const [at, address] of list.entries()) {
        const path = [index, key, at] as const;
        const url = key === 'urls' ? address : `http://${address}`;
        const { origin, hostname } = URL.canParse(url) ? new URL(url) : { origin: address, hostname: '' };
        if (isEverywhere(hostname))
          found.push({
            id,
            path,
            message: `${address} is where ${id} may listen; name the address by which others reach it`,
          });
        const one = `${key} ${key === 'urls' ? origin : address}`;
        const other = taken.get(one) ?? id;
        if (other !== id)
          found.push({ id, path, message: `${address} is the address of ${other} as well as of ${id}` });
        taken.set(one, other);
      }
  return found;
}

/** The cluster document, checked, with its defaults; members of one cluster must have the same. */
export type ClusterDocument = z.infer<typeof DOCUMENT_SCHEMA>;
/** An origin, tracker or proxy of the cluster; `id` is for good, addresses may change. */
export type Member = z.infer<typeof MEMBER_SCHEMA>;
/** A name that images are asked for under, and the registry behind it if there is one. */
export type Upstream = z.infer<typeof UPSTREAM_SCHEMA>;
/** Roles that the cluster document names members of; agents are in no document. */
export type MemberRole = Member['role'];
