"""Clinical cases: tables of CTs, implants and patches in the canonical frame; and cases simulated like them."""
