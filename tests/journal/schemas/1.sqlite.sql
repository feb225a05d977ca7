BEGIN TRANSACTION;
CREATE TABLE actions (
	id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	release TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	alerter TEXT, 
	payload TEXT NOT NULL, 
	state TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	not_before DOUBLE, 
	claimed_at DOUBLE, 
	receipt TEXT, 
	error TEXT, 
	created_at DOUBLE NOT NULL, 
	finished_at DOUBLE, 
	PRIMARY KEY (id), 
	UNIQUE ("key")
);
INSERT INTO "actions" VALUES(1,'kill/1','shop/production/new-checkout@1.2','kill',NULL,'{"key": "kill/1", "release": "shop/production/new-checkout@1.2", "switch": "f/x", "feature": "new-checkout", "reason": "errors tripled", "decided_at": 0.0}','done',1,NULL,701.0,'{"read_back": "off"}',NULL,700.0,702.0);
INSERT INTO "actions" VALUES(2,'a/1','shop/production/new-checkout@1.2','headline',NULL,'{"key": "a/1", "release": "shop/production/new-checkout@1.2", "kind": "headline", "state": "watching", "title": "Watching", "lines": ["a", "b"], "at": 1.0, "urgent": true, "links": [["runbook", "https://x"]]}','done',0,NULL,701.0,'{"addressed_to": "slack"}',NULL,700.0,701.0);
INSERT INTO "actions" VALUES(3,'a/1#slack','shop/production/new-checkout@1.2','headline','slack','{"key": "a/1", "release": "shop/production/new-checkout@1.2", "kind": "headline", "state": "watching", "title": "Watching", "lines": ["a", "b"], "at": 1.0, "urgent": true, "links": [["runbook", "https://x"]]}','intended',0,NULL,NULL,NULL,NULL,700.0,NULL);
INSERT INTO "actions" VALUES(4,'d/1','shop/production/new-checkout@1.2','detail',NULL,'{"key": "d/1", "release": "shop/production/new-checkout@1.2", "kind": "detail", "state": "watching", "title": "Watching", "lines": ["a", "b"], "at": 1.0, "urgent": true, "links": [["runbook", "https://x"]]}','intended',0,NULL,NULL,NULL,NULL,703.0,NULL);
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	release TEXT, 
	what TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,600.0,'shop/production/new-checkout@1.2','release noticed','{"by": "http"}');
INSERT INTO "audit" VALUES(2,700.0,'shop/production/new-checkout@1.2','kill intended','{"key": "kill/1", "switch": "f/x", "feature": "new-checkout", "reason": "errors tripled"}');
INSERT INTO "audit" VALUES(3,702.0,'shop/production/new-checkout@1.2','kill done','{"key": "kill/1", "receipt": {"read_back": "off"}}');
INSERT INTO "audit" VALUES(4,710.0,'shop/production/new-checkout@1.2','release ended','{"status": "recovered", "reason": "it is well"}');
INSERT INTO "audit" VALUES(5,720.0,'shop/production/new-checkout@1.3','release noticed','{"by": "cli"}');
CREATE TABLE blocks (
	release INTEGER NOT NULL, 
	rule TEXT NOT NULL, 
	block_end DOUBLE NOT NULL, 
	baseline BOOLEAN NOT NULL, 
	notes TEXT, 
	PRIMARY KEY (release, rule, block_end)
);
INSERT INTO "blocks" VALUES(1,'errors',600.0,1,NULL);
INSERT INTO "blocks" VALUES(1,'errors',660.0,1,NULL);
INSERT INTO "blocks" VALUES(1,'load',600.0,1,NULL);
INSERT INTO "blocks" VALUES(1,'load',660.0,1,NULL);
CREATE TABLE calibrations (
	release INTEGER NOT NULL, 
	rule TEXT NOT NULL, 
	calibration TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	at DOUBLE NOT NULL, 
	PRIMARY KEY (release, rule)
);
CREATE TABLE looks (
	id INTEGER NOT NULL, 
	release INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	through DOUBLE NOT NULL, 
	blocks INTEGER NOT NULL, 
	outcome TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	phase TEXT NOT NULL, 
	problem TEXT, 
	look TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "looks" VALUES(1,1,700.0,655.0,3,'inconclusive','not yet','watching',NULL,'[{"release": "shop/production/new-checkout@1.2", "at": 700.0, "through": 655.0, "blocks": 3, "verdict": {"outcome": "inconclusive", "reason": "not yet", "streams": [{"rule": "errors", "labels": [["feature", "checkout"]], "outcome": "inconclusive", "reason": "not yet", "effect": {"measure": "ratio", "estimate": 1.1, "lower": null, "upper": {"$float": "inf"}, "confidence": 0.95}, "baseline": {"events": 61, "total": 6000, "units": 3}, "treatment": {"events": 0.3333333333333333, "total": 5990, "units": 3}, "log_e_regressed": {"$float": "-inf"}, "log_e_healthy": 0.1, "threshold": 0.0, "decided_at": null, "onset": null, "since_onset": null, "held": 0, "needs": {"events": 220.0, "minutes": null, "limit": "events"}, "assumed": false, "critical": false, "dormant": false, "alarms": ["absent_treatment"]}], "alarms": ["a"], "assumptions": ["b"]}, "phase": "watching", "told": "", "killed_at": null, "actions": [{"key": "kill/1", "release": "shop/production/new-checkout@1.2", "switch": "f/x", "feature": "new-checkout", "reason": "errors tripled", "decided_at": 0.0}, {"key": "a/1", "release": "shop/production/new-checkout@1.2", "kind": "headline", "state": "watching", "title": "Watching", "lines": ["a", "b"], "at": 1.0, "urgent": true, "links": [["runbook", "https://x"]]}], "refusals": [], "states": {}, "observations": {}, "problem": null}]');
CREATE TABLE memory (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "memory" VALUES('flags','{"new-checkout": true}');
CREATE TABLE meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema','1');
CREATE TABLE observations (
	release INTEGER NOT NULL, 
	block_end DOUBLE NOT NULL, 
	stream INTEGER NOT NULL, 
	unit INTEGER NOT NULL, 
	events DOUBLE, 
	total DOUBLE, 
	PRIMARY KEY (release, block_end, stream, unit)
)
 WITHOUT ROWID

;
INSERT INTO "observations" VALUES(1,600.0,1,1,21.0,23.0);
INSERT INTO "observations" VALUES(1,600.0,1,2,12.0,41.0);
INSERT INTO "observations" VALUES(1,600.0,2,3,12.0,41.0);
INSERT INTO "observations" VALUES(1,600.0,2,4,13.0,22.0);
INSERT INTO "observations" VALUES(1,660.0,1,1,3.0,25.0);
INSERT INTO "observations" VALUES(1,660.0,1,2,19.0,47.0);
INSERT INTO "observations" VALUES(1,660.0,2,3,10.0,13.0);
INSERT INTO "observations" VALUES(1,660.0,2,4,2.0,4.0);
CREATE TABLE releases (
	n INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	watch TEXT NOT NULL, 
	status TEXT NOT NULL, 
	noticed_by TEXT NOT NULL, 
	at DOUBLE NOT NULL, 
	ended_at DOUBLE, 
	end_reason TEXT, 
	PRIMARY KEY (n), 
	UNIQUE (id)
);
INSERT INTO "releases" VALUES(1,'shop/production/new-checkout@1.2','{"release": {"service": "shop", "environment": "production", "feature": "new-checkout", "version": "1.2", "strategy": "flag", "stages": [{"at": 600.0, "share": 0.05}], "previous": "1.1", "reversible": true}, "rules": [{"name": "errors", "kind": "ratio", "events": {"metric": "requests_total", "matchers": [{"label": "code", "op": "=~", "value": "5.."}]}, "total": {"metric": "requests_total", "matchers": []}, "title": "", "help": "", "measured_in": "", "worse": "higher", "margin": 0.5, "absolute": false, "regress_margin": 0.0, "weight": 1.0, "critical": false, "required": true, "matures": 0.0, "objective": null, "across": "median", "by": [], "unit": null, "signature": null}, {"name": "load", "kind": "gauge", "events": {"metric": "load_seconds", "matchers": []}, "total": null, "title": "", "help": "", "measured_in": "", "worse": "higher", "margin": 0.1, "absolute": false, "regress_margin": 0.0, "weight": 1.0, "critical": false, "required": true, "matures": 0.0, "objective": null, "across": "median", "by": ["feature"], "unit": null, "signature": null}], "select": [["job", "shop"]], "baseline": [["variant", "off"]], "treatment": [["variant", "on"]], "block": 60.0, "settle": 45.0, "warm_up": 300.0, "horizon": 86400.0, "history": 86400.0, "alpha": {"regressed": 0.30000000000000004, "healthy": 0.05, "split": 0.0001}, "focus": [], "split": null, "mode": "armed", "switch": "f/x", "accepted": [], "links": []}','recovered','http',600.0,710.0,'it is well');
INSERT INTO "releases" VALUES(2,'shop/production/new-checkout@1.3','{"release": {"service": "shop", "environment": "production", "feature": "new-checkout", "version": "1.3", "strategy": "flag", "stages": [{"at": 600.0, "share": 0.05}], "previous": "1.1", "reversible": true}, "rules": [{"name": "errors", "kind": "ratio", "events": {"metric": "requests_total", "matchers": [{"label": "code", "op": "=~", "value": "5.."}]}, "total": {"metric": "requests_total", "matchers": []}, "title": "", "help": "", "measured_in": "", "worse": "higher", "margin": 0.5, "absolute": false, "regress_margin": 0.0, "weight": 1.0, "critical": false, "required": true, "matures": 0.0, "objective": null, "across": "median", "by": [], "unit": null, "signature": null}, {"name": "load", "kind": "gauge", "events": {"metric": "load_seconds", "matchers": []}, "total": null, "title": "", "help": "", "measured_in": "", "worse": "higher", "margin": 0.1, "absolute": false, "regress_margin": 0.0, "weight": 1.0, "critical": false, "required": true, "matures": 0.0, "objective": null, "across": "median", "by": ["feature"], "unit": null, "signature": null}], "select": [["job", "shop"]], "baseline": [["variant", "off"]], "treatment": [["variant", "on"]], "block": 60.0, "settle": 45.0, "warm_up": 300.0, "horizon": 86400.0, "history": 86400.0, "alpha": {"regressed": 0.30000000000000004, "healthy": 0.05, "split": 0.0001}, "focus": [], "split": null, "mode": "armed", "switch": "f/x", "accepted": [], "links": []}','active','cli',720.0,NULL,NULL);
CREATE TABLE states (
	release INTEGER NOT NULL, 
	rule TEXT NOT NULL, 
	through DOUBLE NOT NULL, 
	state TEXT NOT NULL, 
	PRIMARY KEY (release, rule)
);
INSERT INTO "states" VALUES(1,'errors',655.0,'{"blocks": 2}');
CREATE TABLE streams (
	id INTEGER NOT NULL, 
	release INTEGER NOT NULL, 
	rule TEXT NOT NULL, 
	name TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (release, rule, name)
);
INSERT INTO "streams" VALUES(1,1,'errors','[["feature", "checkout"]]');
INSERT INTO "streams" VALUES(2,1,'load','[["feature", "checkout"]]');
CREATE TABLE units (
	id INTEGER NOT NULL, 
	release INTEGER NOT NULL, 
	rule TEXT NOT NULL, 
	arm TEXT NOT NULL, 
	name TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (release, rule, arm, name)
);
INSERT INTO "units" VALUES(1,1,'errors','treatment','a');
INSERT INTO "units" VALUES(2,1,'errors','baseline','a');
INSERT INTO "units" VALUES(3,1,'load','treatment','a');
INSERT INTO "units" VALUES(4,1,'load','baseline','a');
CREATE INDEX ix_looks_release ON looks (release);
CREATE INDEX ix_actions_release ON actions (release);
CREATE INDEX actions_unfinished ON actions (state);
CREATE INDEX ix_audit_release ON audit (release);
COMMIT;
