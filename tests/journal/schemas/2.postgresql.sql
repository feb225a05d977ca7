CREATE TABLE public.actions (
    id integer NOT NULL,
    key text NOT NULL,
    release text NOT NULL,
    kind text NOT NULL,
    alerter text,
    payload text NOT NULL,
    state text NOT NULL,
    attempts integer NOT NULL,
    not_before double precision,
    claimed_at double precision,
    receipt text,
    error text,
    created_at double precision NOT NULL,
    finished_at double precision
);
CREATE SEQUENCE public.actions_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.actions_id_seq OWNED BY public.actions.id;
CREATE TABLE public.audit (
    id integer NOT NULL,
    at double precision NOT NULL,
    release text,
    what text NOT NULL,
    detail text NOT NULL
);
CREATE SEQUENCE public.audit_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.audit_id_seq OWNED BY public.audit.id;
CREATE TABLE public.blocks (
    release integer NOT NULL,
    rule text NOT NULL,
    block_end double precision NOT NULL,
    baseline boolean NOT NULL,
    notes text,
    layout integer
);
CREATE TABLE public.calibrations (
    release integer NOT NULL,
    rule text NOT NULL,
    calibration text NOT NULL,
    digest text NOT NULL,
    at double precision NOT NULL
);
CREATE TABLE public.layouts (
    id integer NOT NULL,
    release integer NOT NULL,
    rule text NOT NULL,
    name text NOT NULL
);
CREATE SEQUENCE public.layouts_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.layouts_id_seq OWNED BY public.layouts.id;
CREATE TABLE public.looks (
    id integer NOT NULL,
    release integer NOT NULL,
    at double precision NOT NULL,
    through double precision NOT NULL,
    blocks integer NOT NULL,
    outcome text NOT NULL,
    reason text NOT NULL,
    phase text NOT NULL,
    problem text,
    look text NOT NULL
);
CREATE SEQUENCE public.looks_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.looks_id_seq OWNED BY public.looks.id;
CREATE TABLE public.memory (
    key text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.meta (
    key text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.observations (
    release integer NOT NULL,
    block_end double precision NOT NULL,
    stream integer NOT NULL,
    unit integer NOT NULL,
    events double precision,
    total double precision,
    buckets text
);
CREATE TABLE public.releases (
    n integer NOT NULL,
    id text NOT NULL,
    watch text NOT NULL,
    status text NOT NULL,
    noticed_by text NOT NULL,
    at double precision NOT NULL,
    ended_at double precision,
    end_reason text
);
CREATE SEQUENCE public.releases_n_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.releases_n_seq OWNED BY public.releases.n;
CREATE TABLE public.states (
    release integer NOT NULL,
    rule text NOT NULL,
    through double precision NOT NULL,
    state text NOT NULL
);
CREATE TABLE public.streams (
    id integer NOT NULL,
    release integer NOT NULL,
    rule text NOT NULL,
    name text NOT NULL
);
CREATE SEQUENCE public.streams_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.streams_id_seq OWNED BY public.streams.id;
CREATE TABLE public.units (
    id integer NOT NULL,
    release integer NOT NULL,
    rule text NOT NULL,
    arm text NOT NULL,
    name text NOT NULL
);
CREATE SEQUENCE public.units_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.units_id_seq OWNED BY public.units.id;
ALTER TABLE ONLY public.actions ALTER COLUMN id SET DEFAULT nextval('public.actions_id_seq'::regclass);
ALTER TABLE ONLY public.audit ALTER COLUMN id SET DEFAULT nextval('public.audit_id_seq'::regclass);
ALTER TABLE ONLY public.layouts ALTER COLUMN id SET DEFAULT nextval('public.layouts_id_seq'::regclass);
ALTER TABLE ONLY public.looks ALTER COLUMN id SET DEFAULT nextval('public.looks_id_seq'::regclass);
ALTER TABLE ONLY public.releases ALTER COLUMN n SET DEFAULT nextval('public.releases_n_seq'::regclass);
ALTER TABLE ONLY public.streams ALTER COLUMN id SET DEFAULT nextval('public.streams_id_seq'::regclass);
ALTER TABLE ONLY public.units ALTER COLUMN id SET DEFAULT nextval('public.units_id_seq'::regclass);
INSERT INTO public.actions VALUES (1, 'kill/1', 'shop/production/new-checkout@1.2', 'kill', NULL, '{"key": "kill/1", "release": "shop/production/new-checkout@1.2", "switch": "f/x", "feature": "new-checkout", "reason": "errors tripled", "decided_at": 0.0}', 'done', 1, NULL, 701, '{"read_back": "off"}', NULL, 700, 702);
INSERT INTO public.actions VALUES (3, 'a/1#slack', 'shop/production/new-checkout@1.2', 'headline', 'slack', '{"key": "a/1", "release": "shop/production/new-checkout@1.2", "kind": "headline", "state": "watching", "title": "Watching", "lines": ["a", "b"], "at": 1.0, "urgent": true, "links": [["runbook", "https://x"]]}', 'intended', 0, NULL, NULL, NULL, NULL, 700, NULL);
INSERT INTO public.actions VALUES (2, 'a/1', 'shop/production/new-checkout@1.2', 'headline', NULL, '{"key": "a/1", "release": "shop/production/new-checkout@1.2", "kind": "headline", "state": "watching", "title": "Watching", "lines": ["a", "b"], "at": 1.0, "urgent": true, "links": [["runbook", "https://x"]]}', 'done', 0, NULL, 701, '{"addressed_to": "slack"}', NULL, 700, 701);
INSERT INTO public.actions VALUES (4, 'd/1', 'shop/production/new-checkout@1.2', 'detail', NULL, '{"key": "d/1", "release": "shop/production/new-checkout@1.2", "kind": "detail", "state": "watching", "title": "Watching", "lines": ["a", "b"], "at": 1.0, "urgent": true, "links": [["runbook", "https://x"]]}', 'intended', 0, NULL, NULL, NULL, NULL, 703, NULL);
INSERT INTO public.audit VALUES (1, 600, 'shop/production/new-checkout@1.2', 'release noticed', '{"by": "http"}');
INSERT INTO public.audit VALUES (2, 700, 'shop/production/new-checkout@1.2', 'kill intended', '{"key": "kill/1", "switch": "f/x", "feature": "new-checkout", "reason": "errors tripled"}');
INSERT INTO public.audit VALUES (3, 702, 'shop/production/new-checkout@1.2', 'kill done', '{"key": "kill/1", "receipt": {"read_back": "off"}}');
INSERT INTO public.audit VALUES (4, 710, 'shop/production/new-checkout@1.2', 'release ended', '{"status": "recovered", "reason": "it is well"}');
INSERT INTO public.audit VALUES (5, 720, 'shop/production/new-checkout@1.3', 'release noticed', '{"by": "cli"}');
INSERT INTO public.blocks VALUES (1, 'errors', 600, true, NULL, NULL);
INSERT INTO public.blocks VALUES (1, 'errors', 660, true, NULL, NULL);
INSERT INTO public.blocks VALUES (1, 'load', 600, true, NULL, NULL);
INSERT INTO public.blocks VALUES (1, 'load', 660, true, NULL, NULL);
INSERT INTO public.looks VALUES (1, 1, 700, 655, 3, 'inconclusive', 'not yet', 'watching', NULL, '[{"release": "shop/production/new-checkout@1.2", "at": 700.0, "through": 655.0, "blocks": 3, "verdict": {"outcome": "inconclusive", "reason": "not yet", "streams": [{"rule": "errors", "labels": [["feature", "checkout"]], "outcome": "inconclusive", "reason": "not yet", "effect": {"measure": "ratio", "estimate": 1.1, "lower": null, "upper": {"$float": "inf"}, "confidence": 0.95, "of": ""}, "baseline": {"events": 61, "total": 6000, "units": 3}, "treatment": {"events": 0.3333333333333333, "total": 5990, "units": 3}, "log_e_regressed": {"$float": "-inf"}, "log_e_healthy": 0.1, "threshold": 0.0, "decided_at": null, "onset": null, "since_onset": null, "held": 0, "needs": {"events": 220.0, "minutes": null, "limit": "events", "minutes_90": null}, "assumed": false, "critical": false, "dormant": false, "alarms": ["absent_treatment"], "quantiles": [], "sick_unit": null}], "alarms": ["a"], "assumptions": ["b"]}, "phase": "watching", "told": "", "killed_at": null, "actions": [{"key": "kill/1", "release": "shop/production/new-checkout@1.2", "switch": "f/x", "feature": "new-checkout", "reason": "errors tripled", "decided_at": 0.0}, {"key": "a/1", "release": "shop/production/new-checkout@1.2", "kind": "headline", "state": "watching", "title": "Watching", "lines": ["a", "b"], "at": 1.0, "urgent": true, "links": [["runbook", "https://x"]]}], "refusals": [], "states": {}, "observations": {}, "problem": null}]');
INSERT INTO public.memory VALUES ('flags', '{"new-checkout": true}');
INSERT INTO public.meta VALUES ('schema', '2');
INSERT INTO public.observations VALUES (1, 600, 1, 1, 21, 23, NULL);
INSERT INTO public.observations VALUES (1, 660, 1, 1, 3, 25, NULL);
INSERT INTO public.observations VALUES (1, 600, 1, 2, 12, 41, NULL);
INSERT INTO public.observations VALUES (1, 660, 1, 2, 19, 47, NULL);
INSERT INTO public.observations VALUES (1, 600, 2, 3, 12, 41, NULL);
INSERT INTO public.observations VALUES (1, 660, 2, 3, 10, 13, NULL);
INSERT INTO public.observations VALUES (1, 600, 2, 4, 13, 22, NULL);
INSERT INTO public.observations VALUES (1, 660, 2, 4, 2, 4, NULL);
INSERT INTO public.releases VALUES (1, 'shop/production/new-checkout@1.2', '{"release": {"service": "shop", "environment": "production", "feature": "new-checkout", "version": "1.2", "strategy": "flag", "stages": [{"at": 600.0, "share": 0.05, "unsure": 0.0}], "previous": "1.1", "reversible": true, "named": true, "everyone": false, "earlier": 0}, "rules": [{"name": "errors", "kind": "ratio", "events": {"metric": "requests_total", "matchers": [{"label": "code", "op": "=~", "value": "5.."}]}, "total": {"metric": "requests_total", "matchers": []}, "title": "", "help": "", "measured_in": "", "worse": "higher", "margin": 0.5, "absolute": false, "regress_margin": 0.0, "weight": 1.0, "critical": false, "required": true, "matures": 0.0, "objective": null, "across": "median", "by": [], "unit": null, "signature": null}, {"name": "load", "kind": "gauge", "events": {"metric": "load_seconds", "matchers": []}, "total": null, "title": "", "help": "", "measured_in": "", "worse": "higher", "margin": 0.1, "absolute": false, "regress_margin": 0.0, "weight": 1.0, "critical": false, "required": true, "matures": 0.0, "objective": null, "across": "median", "by": ["feature"], "unit": null, "signature": null}], "select": [["job", "shop"]], "baseline": [["variant", "off"]], "treatment": [["variant", "on"]], "block": 60.0, "settle": 45.0, "warm_up": 300.0, "horizon": 86400.0, "history": 86400.0, "alpha": {"regressed": 0.30000000000000004, "before_after": 0.05, "healthy": 0.05, "split": 0.0001}, "focus": [], "zone": "UTC", "excluded": [], "split": null, "mode": "armed", "switch": "f/x", "promote": [], "accepted": [], "links": []}', 'recovered', 'http', 600, 710, 'it is well');
INSERT INTO public.releases VALUES (2, 'shop/production/new-checkout@1.3', '{"release": {"service": "shop", "environment": "production", "feature": "new-checkout", "version": "1.3", "strategy": "flag", "stages": [{"at": 600.0, "share": 0.05, "unsure": 0.0}], "previous": "1.1", "reversible": true, "named": true, "everyone": false, "earlier": 0}, "rules": [{"name": "errors", "kind": "ratio", "events": {"metric": "requests_total", "matchers": [{"label": "code", "op": "=~", "value": "5.."}]}, "total": {"metric": "requests_total", "matchers": []}, "title": "", "help": "", "measured_in": "", "worse": "higher", "margin": 0.5, "absolute": false, "regress_margin": 0.0, "weight": 1.0, "critical": false, "required": true, "matures": 0.0, "objective": null, "across": "median", "by": [], "unit": null, "signature": null}, {"name": "load", "kind": "gauge", "events": {"metric": "load_seconds", "matchers": []}, "total": null, "title": "", "help": "", "measured_in": "", "worse": "higher", "margin": 0.1, "absolute": false, "regress_margin": 0.0, "weight": 1.0, "critical": false, "required": true, "matures": 0.0, "objective": null, "across": "median", "by": ["feature"], "unit": null, "signature": null}], "select": [["job", "shop"]], "baseline": [["variant", "off"]], "treatment": [["variant", "on"]], "block": 60.0, "settle": 45.0, "warm_up": 300.0, "horizon": 86400.0, "history": 86400.0, "alpha": {"regressed": 0.30000000000000004, "before_after": 0.05, "healthy": 0.05, "split": 0.0001}, "focus": [], "zone": "UTC", "excluded": [], "split": null, "mode": "armed", "switch": "f/x", "promote": [], "accepted": [], "links": []}', 'active', 'cli', 720, NULL, NULL);
INSERT INTO public.states VALUES (1, 'errors', 655, '{"blocks": 2}');
INSERT INTO public.streams VALUES (1, 1, 'errors', '[["feature", "checkout"]]');
INSERT INTO public.streams VALUES (2, 1, 'load', '[["feature", "checkout"]]');
INSERT INTO public.units VALUES (1, 1, 'errors', 'treatment', 'a');
INSERT INTO public.units VALUES (2, 1, 'errors', 'baseline', 'a');
INSERT INTO public.units VALUES (3, 1, 'load', 'treatment', 'a');
INSERT INTO public.units VALUES (4, 1, 'load', 'baseline', 'a');
SELECT pg_catalog.setval('public.actions_id_seq', 4, true);
SELECT pg_catalog.setval('public.audit_id_seq', 5, true);
SELECT pg_catalog.setval('public.layouts_id_seq', 1, false);
SELECT pg_catalog.setval('public.looks_id_seq', 1, true);
SELECT pg_catalog.setval('public.releases_n_seq', 2, true);
SELECT pg_catalog.setval('public.streams_id_seq', 2, true);
SELECT pg_catalog.setval('public.units_id_seq', 4, true);
ALTER TABLE ONLY public.actions
    ADD CONSTRAINT actions_key_key UNIQUE (key);
ALTER TABLE ONLY public.actions
    ADD CONSTRAINT actions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.blocks
    ADD CONSTRAINT blocks_pkey PRIMARY KEY (release, rule, block_end);
ALTER TABLE ONLY public.calibrations
    ADD CONSTRAINT calibrations_pkey PRIMARY KEY (release, rule);
ALTER TABLE ONLY public.layouts
    ADD CONSTRAINT layouts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.layouts
    ADD CONSTRAINT layouts_release_rule_name_key UNIQUE (release, rule, name);
ALTER TABLE ONLY public.looks
    ADD CONSTRAINT looks_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.memory
    ADD CONSTRAINT memory_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.observations
    ADD CONSTRAINT observations_pkey PRIMARY KEY (release, block_end, stream, unit);
ALTER TABLE ONLY public.releases
    ADD CONSTRAINT releases_id_key UNIQUE (id);
ALTER TABLE ONLY public.releases
    ADD CONSTRAINT releases_pkey PRIMARY KEY (n);
ALTER TABLE ONLY public.states
    ADD CONSTRAINT states_pkey PRIMARY KEY (release, rule);
ALTER TABLE ONLY public.streams
    ADD CONSTRAINT streams_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.streams
    ADD CONSTRAINT streams_release_rule_name_key UNIQUE (release, rule, name);
ALTER TABLE ONLY public.units
    ADD CONSTRAINT units_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.units
    ADD CONSTRAINT units_release_rule_arm_name_key UNIQUE (release, rule, arm, name);
CREATE INDEX actions_unfinished ON public.actions USING btree (state);
CREATE INDEX ix_actions_release ON public.actions USING btree (release);
CREATE INDEX ix_audit_release ON public.audit USING btree (release);
CREATE INDEX ix_looks_release ON public.looks USING btree (release);
