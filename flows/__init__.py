"""The command line, the stages that join the rooms, and the Prefect flows around them."""
