import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { S3_CREDENTIALS, type S3Server } from './s3-server.ts';

/** A plain client of the server; destroy it. */
export function s3ClientOf(server: S3Server): S3Client {
  return new S3Client({
    ...{ endpoint: server.url, region: 'us-east-1', forcePathStyle: true },
    credentials: S3_CREDENTIALS,
  });
}

/**
 * Ids of the uploads in parts that stand in a bucket, as the server tells them. Its folder may hold more: a part that comes
 * while its upload ends makes a folder anew that nobody can see or end.
 */
export async function openUploads(server: S3Server, bucket: string): Promise<string[]> {
  const client = s3ClientOf(server);
  try {
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    return Uploads.flatMap(({ UploadId }) => UploadId ?? []);
  } finally {
    client.destroy();
  }
}
