# fob: one Makefile, no recursion into folders. `make help` lists what it can do.
#
# Sources are found by wildcard, so a new file needs no line here. Everything built stands beneath $(BUILD).
# Yours to set, in the environment or on the command line: CC CFLAGS CPPFLAGS LDFLAGS, DEV=1 (warnings are
# errors), V=1 (show the commands), BUILD=DIR, FUZZ_SECONDS=N, STATIC=no (fob is linked with libc.so), DESTDIR=
# PREFIX= and the *dir variables of install.

VERSION := 0.1.0
BUILD ?= build
B := $(BUILD)

ifeq ($(origin CC),default)
CC := gcc
endif
OBJCOPY ?= objcopy
CLANG ?= clang
FUZZ_SECONDS ?= 30

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# ---------------------------------------------------------------- flags

comma := ,
quiet = $(if $(V),,@printf '  %-6s %s\n' $(1) $@;)
cc_option = $(shell echo 'int i;' | $(CC) -Werror $(1) -x c -c -o /dev/null - 2>/dev/null && echo '$(1)')

ifdef SANITIZE
CFLAGS ?= -O1 -g -fno-omit-frame-pointer
else
CFLAGS ?= -O2 -g
endif

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wformat=2
ifdef DEV
WERROR := -Werror
endif

# FORTIFY needs an optimizing build, hides errors from the sanitizers, and is not set over the packager's own.
fortify_3 := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
fortify_2 := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
ifeq ($(SANITIZE)$(findstring FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),)
ifneq ($(filter -O1 -O2 -O3 -Os -Oz,$(CFLAGS)),)
FORTIFY := $(or $(call cc_option,-O2 $(fortify_3) -include stdio.h),-O2 $(fortify_2))
FORTIFY := $(filter -U% -D%,$(FORTIFY))
endif
endif

HARDEN := $(FORTIFY) -fstack-protector-strong $(call cc_option,-fstack-clash-protection) \
          $(if $(filter x86_64%,$(shell $(CC) -dumpmachine)),$(call cc_option,-fcf-protection))
LINK_HARDEN := -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed

ifdef SANITIZE
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -DFOB_SANITIZE
endif
ifdef COVERAGE
# Continuous mode: counters are a shared mapping of the profile file, so that a process that is killed, or may make
# no syscall any more, has counted all the same (clang, SourceBasedCodeCoverage, "Running the instrumented program").
SANITIZERS := -fprofile-instr-generate -fcoverage-mapping -mllvm -runtime-counter-relocation -DFOB_COVERAGE
endif

BASE_CFLAGS := -std=c11 -D_GNU_SOURCE -MMD -MP $(WARNINGS) $(HARDEN) $(SANITIZERS)
COMPILE = $(CC) $(BASE_CFLAGS) $(WERROR) $(CPPFLAGS) $(CFLAGS)
RUNTIMES = $(filter -fsanitize% -fprofile% -fno-sanitize%,$(SANITIZERS))
LINK = $(CC) -pie $(RUNTIMES) $(LINK_HARDEN) $(CFLAGS) $(LDFLAGS)
FOBD_LIBS := -lcap -lseccomp
# fob, which sandboxed programs run and scripts run often, needs no library at run time where that can be had: it starts
# sooner, and in a sandbox that has none. (It looks up no names: NSS is not for static programs.)
static_pie := $(shell echo 'int main(void) { return 0; }' | $(CC) -static-pie -x c -o /dev/null - 2>/dev/null && echo yes)
STATIC ?= $(if $(SANITIZERS),no,$(or $(static_pie),no))
LINK_FOB = $(if $(filter yes,$(STATIC)),$(patsubst -pie,-static-pie,$(LINK)),$(LINK))

# ---------------------------------------------------------------- sources

common_src  := $(wildcard common/*.c)
policy_src  := $(wildcard policy/*.c)
fobctl_src  := $(wildcard policy/fobctl/*.c)
broker_src  := $(filter-out broker/main.c,$(wildcard broker/*.c))
fobd_src    := $(wildcard broker/main.c)
client_src  := $(wildcard client/*.c)
cli_src     := $(wildcard client/cli/*.c)
trace_src   := $(wildcard client/trace/*.c)
unit_src    := $(wildcard tests/unit/test_*.c)
fuzz_src    := $(wildcard tests/fuzz/fuzz_*.c)
oracle_src  := $(wildcard tests/unit/oracle.c)
unitlib_src := $(filter-out $(unit_src) $(oracle_src),$(wildcard tests/unit/*.c))
inttest_src := $(wildcard tests/integration/test_*.c)
intlib_src  := $(filter-out $(inttest_src),$(wildcard tests/integration/*.c))
soak_src    := $(wildcard tests/soak/*.c)
facts_src   := $(wildcard tests/facts/*.c)
program_src := $(wildcard tests/integration/programs/*.c)
bench_src   := $(if $(wildcard tests/bench/*.c),$(shell grep -l '^int main' tests/bench/*.c))
benchlib_src := $(filter-out $(bench_src),$(wildcard tests/bench/*.c))

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
pic = $(patsubst %.c,$(B)/pic/%.o,$(1))

programs   := $(if $(fobd_src),$(B)/fobd) $(if $(cli_src),$(B)/fob) $(if $(fobctl_src),$(B)/fobctl)
libraries  := $(if $(client_src),$(B)/libfob.so.1 $(B)/libfob.so $(B)/libfob.a $(B)/libfob.pc)
unit_bin   := $(patsubst tests/unit/%.c,$(B)/tests/%,$(unit_src))
fuzz_bin   := $(patsubst tests/fuzz/%.c,$(B)/tests/%,$(fuzz_src))
int_bin    := $(patsubst tests/integration/%.c,$(B)/tests/integration/%,$(inttest_src))
oracle_bin := $(if $(oracle_src),$(B)/tests/oracle)
soak_bin   := $(if $(soak_src),$(B)/tests/soak/soak)
facts_bin  := $(patsubst %.c,$(B)/%,$(facts_src))
program_bin := $(patsubst tests/integration/programs/%.c,$(B)/tests/programs/%,$(program_src))
bench_bin  := $(patsubst tests/bench/%.c,$(B)/tests/bench/%,$(bench_src))

# ---------------------------------------------------------------- what to build

.PHONY: all
all: $(programs) $(libraries) ## build fobd, fob and libfob into build/ (the default)

# What is missing is installed only by targets that say so in their help; plain `make` tells and stops.
installing := demo deps check check-% soak lint fuzz coverage bench bench-quick bench-plot
deps_mode := $(if $(filter $(installing),$(MAKECMDGOALS)),install,tell)

$(foreach set,build check lint clang valgrind plot,$(B)/.deps-$(set)): $(B)/.deps-%: tests/deps.sh
	@mkdir -p $(@D) && sh tests/deps.sh $(deps_mode) $* && touch $@

# Rewritten only when they differ: objects made with other flags, and archives of other sources, are out of date.
remember = mkdir -p $(@D); echo '$(subst ','\'',$(1))' >$@.new; \
    if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
$(B)/.flags: FORCE
	@$(call remember,$(CC) $(BASE_CFLAGS) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) STATIC=$(STATIC))
$(B)/.sources: FORCE
	@$(call remember,$(common_src) $(policy_src) $(broker_src) $(client_src) $(trace_src) $(unitlib_src) $(intlib_src) $(benchlib_src))
.PHONY: FORCE
FORCE:

$(B)/obj/tests/%.o: tests/%.c $(B)/.flags | $(B)/.deps-build $(B)/.deps-check
	@mkdir -p $(@D)
	$(call quiet,CC)$(COMPILE) -fPIE -c -o $@ $<
$(B)/obj/%.o: %.c $(B)/.flags | $(B)/.deps-build
	@mkdir -p $(@D)
	$(call quiet,CC)$(COMPILE) -fPIE -c -o $@ $<
$(B)/pic/%.o: %.c $(B)/.flags | $(B)/.deps-build
	@mkdir -p $(@D)
	$(call quiet,CC)$(COMPILE) -fPIC -fvisibility=hidden -c -o $@ $<

define archive_rule
$(B)/$(1).a: $(call obj,$(2)) $(B)/.sources
	@mkdir -p $$(@D)
	$$(call quiet,AR)rm -f $$@ && $$(AR) rcsD $$@ $$(filter %.o,$$^)
endef
archive = $(eval $(call archive_rule,$(1),$(2)))
# client.a is for unit tests, which may look inside; programs get libfob.a.
$(foreach part,common policy broker client trace,$(call archive,$(part),$($(part)_src)))

$(B)/fobd: $(call obj,$(fobd_src)) $(B)/broker.a $(B)/policy.a $(B)/common.a
	$(call quiet,LINK)$(LINK) -o $@ $^ $(FOBD_LIBS)
$(B)/fobctl: $(call obj,$(fobctl_src)) $(B)/policy.a $(B)/common.a
	$(call quiet,LINK)$(LINK) -o $@ $^
# Only the tracer looks beneath fob.h; what libfob.a has of common/ is hidden, so it brings its own.
$(B)/fob: $(call obj,$(cli_src)) $(B)/libfob.a $(if $(trace_src),$(B)/trace.a $(B)/common.a)
	$(call quiet,LINK)$(LINK_FOB) -o $@ $^

libfob_obj := $(call pic,$(client_src) $(common_src))
# A sanitizer's own symbols come from the program that loads the library: no -z defs then.
LINK_SHARED = $(CC) -shared $(RUNTIMES) $(LINK_HARDEN) $(if $(SANITIZERS),,-Wl$(comma)-z$(comma)defs) $(CFLAGS) $(LDFLAGS)
$(B)/libfob.so.1: $(libfob_obj) client/libfob.syms $(B)/.sources
	$(call quiet,LINK)$(LINK_SHARED) -Wl,-soname,libfob.so.1 -Wl,--version-script=client/libfob.syms -o $@ $(libfob_obj)
$(B)/libfob.so: $(B)/libfob.so.1
	@ln -sf libfob.so.1 $@
# One object with every hidden symbol made local: nothing of common/ can clash with a name of the program's.
$(B)/libfob.o: $(libfob_obj) $(B)/.sources
	@mkdir -p $(@D)
	$(call quiet,LD)$(LD) -r -o $@ $(libfob_obj) $(if $(COVERAGE),,&& $(OBJCOPY) --localize-hidden $@)
$(B)/libfob.a: $(B)/libfob.o
	$(call quiet,AR)rm -f $@ && $(AR) rcsD $@ $^

# ---------------------------------------------------------------- tests

# A test links what it includes, so that it builds (and says something) while other parts do not. A line
# ` * Link: FLAGS` in its first comment adds flags, such as -Wl,--wrap=NAME.
includes_of = $(if $(wildcard $(1)),$(shell grep -lE 'include "(\.\./)+$(2)' $(1)))
test_all_src := $(unit_src) $(unitlib_src) $(fuzz_src) $(oracle_src) $(inttest_src) $(intlib_src) $(bench_src) $(benchlib_src)
using_broker := $(call includes_of,$(test_all_src),broker/)
using_policy := $(call includes_of,$(test_all_src),policy/)
using_client := $(call includes_of,$(test_all_src),client/)
using_trace := $(call includes_of,$(test_all_src),client/trace/)
uses = $(filter $(1),$(using_$(2)))
libs_of = $(if $(call uses,$(1),trace),$(B)/trace.a) \
          $(if $(call uses,$(1),client),$(if $(filter tests/unit/%,$(1)),$(B)/client.a,$(B)/libfob.a)) \
          $(if $(call uses,$(1),broker),$(B)/broker.a) \
          $(if $(call uses,$(1),broker)$(call uses,$(1),policy),$(B)/policy.a) $(B)/common.a
link_flags = $(shell sed -n 's,^ \* Link: ,,p' $(1))

# program, its source, what it shares with others, the sources of that
define test_rule
$(1): $(call obj,$(2)) $(3) $(call libs_of,$(2) $(4))
	@mkdir -p $$(@D)
	$$(call quiet,LINK)$$(LINK) -o $$@ $$^ $$(call link_flags,$(2)) \
	    $(if $(call uses,$(2) $(4),broker),$(FOBD_LIBS)) -lcmocka -lm -pthread
endef
# What tests share is an archive too: pulled in by those that use it.
$(call archive,tests/unit,$(unitlib_src))
$(call archive,tests/integration,$(intlib_src))
$(call archive,tests/bench,$(benchlib_src))
# sources, folder of the programs, what they share and its sources
tests_of = $(foreach s,$(1),$(eval $(call test_rule,$(2)/$(basename $(notdir $(s))),$(s),$(3),$(4))))
$(call tests_of,$(unit_src) $(oracle_src),$(B)/tests,$(B)/tests/unit.a,$(unitlib_src))
$(call tests_of,$(fuzz_src),$(B)/tests,$(call obj,tests/fuzz/replay.c))
$(call tests_of,$(inttest_src),$(B)/tests/integration,$(B)/tests/integration.a,$(intlib_src))
$(call tests_of,$(bench_src),$(B)/tests/bench,$(B)/tests/bench.a $(B)/tests/integration.a,$(benchlib_src))
$(soak_bin): $(call obj,$(soak_src)) $(B)/policy.a $(B)/common.a
	@mkdir -p $(@D)
	$(call quiet,LINK)$(LINK) -o $@ $^

# Nothing of ours in them: what they show holds for everybody's programs.
$(facts_bin): $(B)/%: $(B)/obj/%.o
	@mkdir -p $(@D)
	$(call quiet,LINK)$(LINK) -o $@ $^ -pthread
$(program_bin): $(B)/tests/programs/%: $(B)/obj/tests/integration/programs/%.o $(B)/libfob.a
	@mkdir -p $(@D)
	$(call quiet,LINK)$(LINK) -o $@ $^

style_checks := tests/check-includes.sh tests/check-style.sh
golden       := $(wildcard tests/golden/*.sh)
man_checks   := $(wildcard tests/man/*.sh tests/integration/man*.sh)
int_scripts  := $(filter-out tests/integration/harness% $(man_checks),$(wildcard tests/integration/*.sh))
RUN = BUILD=$(abspath $(B)) $(if $(SANITIZE),FOB_SANITIZE=1 UBSAN_OPTIONS=print_stacktrace=1) sh tests/run.sh

.PHONY: tests
tests: all $(unit_bin) $(fuzz_bin) $(int_bin) $(oracle_bin) $(bench_bin) $(soak_bin) $(facts_bin) $(program_bin) ## build every test program, run none

.PHONY: check-attacks soak check check-style check-unit check-fuzz-corpus check-integration check-oracle check-install check-man
check: tests ## install what is missing (as root), build, run all tests
	@$(RUN) $(style_checks) $(unit_bin) $(fuzz_bin) $(oracle_bin) $(facts_bin) $(golden) $(int_bin) $(int_scripts) $(man_checks) \
	    $(if $(SANITIZERS),,tests/install-test.sh)
check-style: ## include rules, sizes of functions and files
	@$(RUN) $(style_checks)
check-unit: $(unit_bin) ## the unit tests alone
	@$(RUN) $(unit_bin)
check-fuzz-corpus: $(fuzz_bin) ## every fuzzer over its seed corpus
	@$(RUN) $(fuzz_bin)
check-integration: all $(int_bin) ## real processes, sockets and users (most of it needs root)
	@$(RUN) $(golden) $(int_bin) $(int_scripts)
check-attacks: tests ## every row of the threat list, as real users against the confined broker (needs root)
	@BUILD=$(abspath $(B)) sh tests/attacks.sh
soak: tests ## SOAK_MINUTES (10) of mixed load, faults, kills and reloads; then audit against what clients saw
	@BUILD=$(abspath $(B)) sh tests/soak/soak.sh $(SOAK_MINUTES)
check-oracle: $(oracle_bin) ## the matcher against the slow, obvious one: millions of random cases
	$(oracle_bin) $(ORACLE_CASES)
check-install: all ## install into a temporary folder, use it, uninstall it
	@$(RUN) tests/install-test.sh
check-man: all ## lint of the man pages and their examples
	@$(RUN) $(man_checks)
ORACLE_CASES ?= 5000000
SOAK_MINUTES ?= 10

# ---------------------------------------------------------------- more than the ordinary check

.PHONY: demo check-asan check-valgrind fuzz bench bench-quick bench-plot coverage lint format
demo: all ## a real, confined broker at work, step by step (as root: installs what is missing)
	@BUILD=$(abspath $(B)) sh tests/demo.sh

check-asan: ## everything again with AddressSanitizer and UBSan, in build/asan
	@+$(MAKE) --no-print-directory BUILD=$(B)/asan SANITIZE=1 check

# A confined worker may make too few syscalls for valgrind: unit tests and corpora only.
check-valgrind: $(B)/.deps-valgrind $(unit_bin) $(fuzz_bin) ## unit tests and fuzz corpora under valgrind
	@WRAP='valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect,possible' \
	    FOB_VALGRIND=1 $(RUN) $(unit_bin) $(fuzz_bin)

fuzzers := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(fuzz_src))
fuzz_lib_src = $(common_src) $(if $(filter $(1),$(using_policy) $(using_broker)),$(policy_src)) \
               $(if $(filter $(1),$(using_broker)),$(broker_src)) $(if $(filter $(1),$(using_client)),$(client_src))
FUZZ_CC := $(CLANG) -std=c11 -D_GNU_SOURCE -DFOB_SANITIZE -g -O1 -fno-omit-frame-pointer \
           -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
fuzz_obj = $(patsubst %.c,$(B)/fuzz/obj/%.o,$(1))
$(B)/fuzz/obj/%.o: %.c | $(B)/.deps-build $(B)/.deps-clang
	@mkdir -p $(@D)
	$(call quiet,CLANG)$(FUZZ_CC) -MMD -MP -c -o $@ $<
define fuzz_rule
$(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(1)): $(call fuzz_obj,$(1) $(call fuzz_lib_src,$(1)))
	$$(call quiet,LINK)$(CLANG) -fsanitize=fuzzer,address,undefined -o $$@ $$^ $(if $(filter $(1),$(using_broker)),$(FOBD_LIBS))
endef
$(foreach s,$(fuzz_src),$(eval $(call fuzz_rule,$(s))))
fuzz: $(fuzzers) ## run each fuzzer for FUZZ_SECONDS (30), beginning with its corpus
	@sh tests/fuzz.sh $(FUZZ_SECONDS) $(fuzzers)

bench_needs := all $(bench_bin)
bench: $(bench_needs) ## fob and its peers side by side: a table and build/bench.json, five minutes (BENCH='single many': parts)
	@BUILD=$(abspath $(B)) sh tests/bench/run.sh full $(BENCH)
bench-quick: $(bench_needs) ## the same in thirty seconds
	@BUILD=$(abspath $(B)) sh tests/bench/run.sh quick $(BENCH)
bench-plot: $(B)/.deps-plot ## the curves of the last make bench (run now if there was none): build/bench.svg, bench.png
	@+grep -qs '^{"curve":' $(B)/bench.json || $(MAKE) --no-print-directory bench
	@BUILD=$(abspath $(B)) sh tests/bench/plot.sh

coverage: $(B)/.deps-clang ## lines of common, policy and broker that make check runs (fails under 90 %)
	@+rm -rf $(B)/cov/profile; mkdir -p $(B)/cov/profile; chmod 1777 $(B)/cov/profile; status=0; \
	LLVM_PROFILE_FILE='$(abspath $(B))/cov/profile/%p%c.profraw' \
	    $(MAKE) --no-print-directory BUILD=$(B)/cov CC=$(CLANG) COVERAGE=1 CFLAGS='-O1 -g' check || status=1; \
	sh tests/coverage.sh $(abspath $(B))/cov 90 || status=1; exit $$status

lint: $(B)/.deps-lint ## clang-tidy, cppcheck, gcc -fanalyzer, shellcheck, mandoc -T lint
	@BUILD=$(abspath $(B)) sh tests/lint.sh

format: ## clang-format over all sources, in place
	clang-format -i $(shell find common policy broker client tests -name '*.[ch]')

# ---------------------------------------------------------------- install

PREFIX ?= /usr/local
bindir ?= $(PREFIX)/bin
sbindir ?= $(PREFIX)/sbin
libdir ?= $(PREFIX)/lib
includedir ?= $(PREFIX)/include
mandir ?= $(PREFIX)/share/man
pkgconfigdir ?= $(libdir)/pkgconfig
docdir ?= $(PREFIX)/share/doc/fob
pythondir ?= $(libdir)/python3/dist-packages
phpdir ?= $(PREFIX)/share/php
bashcompdir ?= $(PREFIX)/share/bash-completion/completions
zshcompdir ?= $(PREFIX)/share/zsh/site-functions
completion_fob := client/completion
completion_fobctl := policy/completion
INSTALL ?= install
man_pages := $(wildcard man/*.[1-8])

# Made anew each time (PREFIX may differ), replaced only when it did.
$(B)/libfob.pc: client/fob.pc.in FORCE
	@mkdir -p $(@D); sed -e 's,@PREFIX@,$(PREFIX),' -e 's,@LIBDIR@,$(patsubst $(PREFIX)/%,$${prefix}/%,$(libdir)),' \
	    -e 's,@INCLUDEDIR@,$(patsubst $(PREFIX)/%,$${prefix}/%,$(includedir)),' -e 's,@VERSION@,$(VERSION),' $< >$@.new; \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# One list, mode:source:destination, for install and uninstall: neither can forget what the other knows.
# SETUID=1: whoever may execute fobd can start a broker for themselves that serves the system's policy (fobd(8)).
fobd_mode := $(if $(SETUID),4755,0755)
openfile := $(if $(SETUID),$(sbindir)/openfile)
installed := $(fobd_mode):$(B)/fobd:$(sbindir)/fobd 0755:$(B)/fob:$(bindir)/fob \
    $(if $(fobctl_src),0755:$(B)/fobctl:$(sbindir)/fobctl) \
    0644:$(B)/libfob.so.1:$(libdir)/libfob.so.1 0644:$(B)/libfob.a:$(libdir)/libfob.a \
    $(foreach p,$(wildcard client/python/*.py),0644:$(p):$(pythondir)/$(notdir $(p))) \
    $(foreach p,$(wildcard client/php/*.php),0644:$(p):$(phpdir)/$(notdir $(p))) \
    0644:client/fob.h:$(includedir)/fob.h 0644:$(B)/libfob.pc:$(pkgconfigdir)/libfob.pc \
    $(foreach c,fob fobctl,0644:$(completion_$(c))/$(c).bash:$(bashcompdir)/$(c) 0644:$(completion_$(c))/_$(c):$(zshcompdir)/_$(c)) \
    $(foreach e,$(wildcard policy/examples/*.policy),0644:$(e):$(docdir)/examples/$(notdir $(e))) \
    $(foreach page,$(man_pages),0644:$(page):$(mandir)/man$(subst .,,$(suffix $(page)))/$(notdir $(page)))
destination = $(lastword $(subst :, ,$(1)))

.PHONY: install uninstall
install: all ## into PREFIX (/usr/local) beneath DESTDIR; sysconfdir=/etc also makes /etc/fob/policy.d; SETUID=1: see fobd(8)
	@set -e; for entry in $(installed); do \
	    mode=$${entry%%:*}; rest=$${entry#*:}; \
	    $(INSTALL) -D -m $$mode "$${rest%%:*}" "$(DESTDIR)$${rest#*:}"; done
	@ln -sf libfob.so.1 $(DESTDIR)$(libdir)/libfob.so
	@$(if $(openfile),ln -sf fobd $(DESTDIR)$(openfile))
	@$(if $(sysconfdir),$(INSTALL) -d -m 0755 $(DESTDIR)$(sysconfdir)/fob $(DESTDIR)$(sysconfdir)/fob/policy.d)
uninstall: ## take away what install put there, never a policy
	@rm -f $(foreach entry,$(installed),$(DESTDIR)$(call destination,$(entry))) $(DESTDIR)$(libdir)/libfob.so $(DESTDIR)$(sbindir)/openfile
	@$(if $(sysconfdir),rmdir $(DESTDIR)$(sysconfdir)/fob/policy.d $(DESTDIR)$(sysconfdir)/fob 2>/dev/null || true)

# ---------------------------------------------------------------- the rest

.PHONY: deps clean help
deps: $(B)/.deps-build $(B)/.deps-check ## install what building and testing needs (as root, else: print the command)
	@echo "all needs of build and check are here"
clean: ## remove build/
	rm -rf $(B)
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r target text; do \
	    printf '    %-24s %s\n' "$$target" "$$text"; done
	@sed -n '/^# Yours to set/,/^$$/s/^# //p' Makefile

-include $(shell find $(B)/obj $(B)/pic $(B)/fuzz/obj -name '*.d' 2>/dev/null)
