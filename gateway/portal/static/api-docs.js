"use strict";
// Swagger UI over the API's own document. Who is signed in here asks with the session; others give a key or a token.
window.ui = SwaggerUIBundle({
  url: "/platform/v1/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
