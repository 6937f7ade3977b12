import type Router from '@koa/router';
import { createRouter } from '@sepia/http/router';
import { writeBackRoutes } from '../write-back/routes.ts';
import { accessRoutes } from './access-routes.ts';
import { backupRoutes } from './backup-routes.ts';
import { blobRoutes } from './blob-routes.ts';
import { discoveryRoutes } from './discovery-routes.ts';
import { gcRoutes } from './gc-routes.ts';
import { recordRoutes } from './record-routes.ts';
import { removalRoutes } from './removal-routes.ts';
import { replicationRoutes } from './replication-routes.ts';
import { ringRoutes } from './ring-routes.ts';
import { setRoutes } from './set-routes.ts';
import { strangerRoutes } from './stranger-routes.ts';
import { floorRoutes, syncRoutes } from './sync-routes.ts';
import { tagRoutes } from './tag-routes.ts';
import { uploadRoutes } from './upload-routes.ts';

type DepsOf<Routes extends (router: Router, deps: never) => void> = Parameters<Routes>[1];

/** What the routes of an origin answer by, as each of them names it. */
type OriginRouterDeps = DepsOf<typeof accessRoutes> &
  DepsOf<typeof backupRoutes> &
  DepsOf<typeof blobRoutes> &
  DepsOf<typeof discoveryRoutes> &
  DepsOf<typeof floorRoutes> &
  DepsOf<typeof gcRoutes> &
  DepsOf<typeof recordRoutes> &
  DepsOf<typeof removalRoutes> &
  DepsOf<typeof replicationRoutes> &
  DepsOf<typeof ringRoutes> &
  DepsOf<typeof setRoutes> &
  DepsOf<typeof strangerRoutes> &
  DepsOf<typeof syncRoutes> &
  DepsOf<typeof tagRoutes> &
  DepsOf<typeof uploadRoutes> &
  DepsOf<typeof writeBackRoutes>;

/** All routes that an origin answers to members. */
export function originRouter(deps: OriginRouterDeps): Router {
  const router = createRouter();
  for (const routes of [
    blobRoutes,
    uploadRoutes,
    replicationRoutes,
    writeBackRoutes,
    removalRoutes,
    gcRoutes,
    backupRoutes,
    tagRoutes,
    ringRoutes,
    setRoutes,
    syncRoutes,
    floorRoutes,
    recordRoutes,
    discoveryRoutes,
    accessRoutes,
    strangerRoutes,
  ])
    routes(router, deps);
  return router;
}
