// Package schema is the JSON Schema of routes documents, for editors: they complete fields, show what each means and
// underline what is not allowed. It is laxer than crowd, which also looks at what no schema can say, but for fields that are
// null, and describes each file of a directory too.
package schema

import _ "embed"

// JSON is the schema (draft 2020-12). A test makes it of package route and its comments.
//
//go:embed routes.schema.json
var JSON []byte
