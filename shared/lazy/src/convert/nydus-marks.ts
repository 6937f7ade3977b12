/** By these nydus-snapshotter knows data blobs and the layer with the bootstrap. */
export const NYDUS_BLOB_ANNOTATION = 'containerd.io/snapshot/nydus-blob';
/** Annotation of the layer that holds the bootstrap of a Nydus image. */
export const NYDUS_BOOTSTRAP_ANNOTATION = 'containerd.io/snapshot/nydus-bootstrap';
