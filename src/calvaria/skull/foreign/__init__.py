"""What lies in a head's bone and is not this patient's intact skull: metal, implants, flaps."""
