# The targets of the original, each the command that does it here.
.PHONY: compile clean test benchmark-nine-nines benchmark-nine-nines-baseline benchmark-nine-nines-overload \
	benchmark-nine-nines-full

compile:
	cargo build --release --locked

clean:
	cargo clean

test:
	scripts/test

benchmark-nine-nines: benchmark-nine-nines-full

benchmark-nine-nines-baseline:
	scripts/nine_nines.sh baseline

benchmark-nine-nines-overload:
	scripts/nine_nines.sh overload

benchmark-nine-nines-full:
	scripts/nine_nines.sh full
