"""One file per API, named as the API: what the broker does with the request. Imported at the API's first use."""
