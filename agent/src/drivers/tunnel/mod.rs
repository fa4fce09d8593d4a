//! HBONE: TCP streams in HTTP/2 CONNECT (h2).
