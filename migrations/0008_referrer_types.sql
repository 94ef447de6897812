-- Serves the referrers API with its filter: of a subject that has thousands, a few of one type.
CREATE INDEX manifests_subject_type ON manifests (repository_id, subject, artifact_type, id) WHERE subject IS NOT NULL;
