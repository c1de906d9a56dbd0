"""Every @task, one a step: `outbound` for a backup on its way out, `inbound` for it on its way back."""
