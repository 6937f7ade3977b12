import { parseDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { upstreamOfHost } from '@sepia/base/names/upstream-name';
import { withoutPrefix } from '@sepia/base/networks';
import { TORRENT } from '@sepia/cluster/api/tracker';
import type { Cluster } from '@sepia/cluster/cluster';
import type { RequestState } from '@sepia/http/app';
import { goneSignal } from '@sepia/http/client-gone';
import { createRouter, routed, routesOf, serve } from '@sepia/http/router';
import { queryValue } from '@sepia/http/signed';
import { TORRENT_TYPE, torrentFile, torrentName } from '@sepia/metainfo/torrent';
import type { Context, Middleware } from 'koa';
import { ANNOUNCE_MS } from '../deadlines.ts';
import { namedBlob, parseAnnounce, parseBinaryQuery, parseScrape } from '../strangers/core/announce-query.ts';
import { announceAnswer, failureAnswer, scrapeAnswer } from '../strangers/core/tracker-answers.ts';
import type { StrangerDesk } from '../strangers/stranger-desk.ts';

interface AnnounceDeps {
  readonly cluster: Cluster;
  readonly desk: StrangerDesk;
  readonly stopping: AbortSignal;
}

/**
 * Routes for standard BitTorrent clients, open as the policy `strangers` says: `GET /v1/blobs/<digest>/torrent`,
 * `/announce` and `/scrape` (BEP 3, 7, 23, 48). Announce and scrape refuse in the form that clients understand.
 */
export function announceRoutes(deps: AnnounceDeps): Middleware {
  const router = createRouter();
  router.get('/announce', async (ctx) => await told(routed(ctx, 'announce'), deps, announce));
  router.get('/scrape', async (ctx) => await told(routed(ctx, 'scrape'), deps, scrape));
  serve(router, TORRENT, async (ctx, params) => await torrent(ctx, deps, params.digest));
  return routesOf(router);
}

/** Answers with bencoded bytes; errors are told in them, with status 200. */
async function told(
  ctx: Context,
  deps: AnnounceDeps,
  answer: (ctx: Context, deps: AnnounceDeps) => Promise<Uint8Array>,
): Promise<void> {
  ctx.type = 'text/plain';
  try {
    demandPolicy(deps.cluster);
    ctx.body = Buffer.from(await answer(ctx, deps));
  } catch (error) {
    throwIfBug(error);
    if (!isCoded(error)) throw error;
    ctx.body = Buffer.from(failureAnswer(error.message));
  }
}

async function announce(ctx: Context, deps: AnnounceDeps): Promise<Uint8Array> {
  const query = parseBinaryQuery(ctx.querystring);
  const asked = parseAnnounce(query);
  const named = namedBlob(query);
  const host = withoutPrefix((ctx.state as RequestState).address ?? '');
  const name = named === undefined ? undefined : blobNameOf(deps.cluster, named);
  const { counts, peers } = await deps.desk.announce(asked, name, host, waiting(ctx, deps));
  const intervalMs = deps.cluster.document.policies['stranger-interval'];
  return announceAnswer({ intervalMs, counts, peers, compact: asked.compact, noPeerId: asked.noPeerId });
}

async function scrape(ctx: Context, deps: AnnounceDeps): Promise<Uint8Array> {
  const hashes = parseScrape(parseBinaryQuery(ctx.querystring));
  return scrapeAnswer(new Map(hashes.map((infoHash) => [infoHash, deps.desk.counts(infoHash)])));
}

async function torrent(ctx: Context, deps: AnnounceDeps, digest: string): Promise<void> {
  const { cluster, desk } = deps;
  demandPolicy(cluster);
  const name = blobNameOf(cluster, {
    digest,
    upstream: queryValue(ctx, 'upstream') ?? cluster.defaultUpstream,
    repository: queryValue(ctx, 'repository') ?? '',
  });
  const facts = await desk.torrent(name, waiting(ctx, deps));
  const file = torrentFile(facts, {
    announce: cluster.trackers(name.digest).flatMap(({ urls }) => urls.map((url) => announceUrl(url, name))),
    webSeeds: cluster.members('proxy').flatMap(({ urls }) => urls.map((url) => webSeedUrl(url, name))),
  });
  ctx.type = TORRENT_TYPE;
  ctx.set('Content-Disposition', `attachment; filename="${torrentName(name.digest)}.torrent"`);
  ctx.body = Buffer.from(file);
}

/** Names the blob too: a tracker that knows nothing of the torrent makes it again. */
function announceUrl(trackerUrl: string, { digest, upstream, repository }: BlobName): string {
  const query = new URLSearchParams({ digest, upstream, repository });
  return `${trackerUrl}/announce?${query}`;
}

/** The blob at a proxy, whose door decides who reads it; the colon of a digest is escaped, as some clients need. */
function webSeedUrl(proxyUrl: string, { digest, upstream, repository }: BlobName): string {
  return `${proxyUrl}/v2/${repository}/blobs/${encodeURIComponent(digest)}?ns=${encodeURIComponent(upstream)}`;
}

/** An upstream is named by its name or one of its hosts. @throws `DIGEST_SYNTAX`, `NAME_INVALID`, `UPSTREAM_UNKNOWN` */
function blobNameOf(
  cluster: Cluster,
  named: { readonly digest: string; readonly upstream: string; readonly repository: string },
): BlobName {
  const digest = parseDigest(named.digest);
  const repository = parseRepositoryName(named.repository);
  const upstream = upstreamOfHost(named.upstream, cluster.upstreams) ?? cluster.upstream(named.upstream);
  return { digest, upstream: upstream.name, repository };
}

function demandPolicy(cluster: Cluster): void {
  if (cluster.document.policies.strangers !== 'never') return;
  throw new CodedError('AUTH_DENIED', {
    message: 'strangers: never (this cluster serves its members only)',
  });
}

function waiting(ctx: Context, { stopping }: AnnounceDeps): AbortSignal {
  return AbortSignal.any([goneSignal(ctx), stopping, AbortSignal.timeout(ANNOUNCE_MS)]);
}
