/**
 * SQL: whether a row of `manifests` is one whose bytes were found to be others (src/integrity). Its clients push it again,
 * with which it has another put_request.
 * @param row what the query calls it
 */
export function isQuarantinedManifest(row = "manifests"): string {
  return `EXISTS (SELECT 1 FROM integrity_findings AS finding
         WHERE finding.manifest_id = ${row}.id AND finding.put_request = ${row}.put_request
           AND finding.released_at IS NULL)`;
}
