import { snapshotterImages, snapshotterReads } from './snapshotter-status.ts';
import { profileOf, type StartProfile } from './start-profile.ts';

/**
 * What starts of an image read on this node, as its snapshotter recorded it; layers whose reads it may have missed are
 * named on stderr.
 * @param admin admin address of the snapshotter
 * @throws {CodedError} `PEER_HTTP` where none answers there, `REQUEST_INVALID` where nothing is recorded of the image
 */
export async function recordedProfile(reference: string, admin: string): Promise<StartProfile> {
  const [images, reads] = await Promise.all([snapshotterImages(admin), snapshotterReads(admin)]);
  const profile = profileOf(reference, images, reads);
  for (const layer of profile.unseen)
    process.stderr.write(
      `${layer} is whole on this node: reads since its last mount may be missing; record on a node with "fill: none"\n`,
    );
  return profile;
}
